"""Tasks of bundles in real workers: what is sent together, what the handlers noted, what became of
each.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from django.db import connection

from tasks_app import transitions
from tasks_app.dispatch import bundles
from tasks_app.dispatch.publish import Publisher, make_publisher
from tasks_app.models import Attempt, Event, Task
from tests.engines import dispatcher, new_queue
from tests.factories import make_task, make_tenant
from tests.processes import wait_for
from tests.protocol.checkers import read_history, violations

ALPHABET = len(ascii_lowercase)


class Members:
    """Tasks `test.member`, named a, b, c ... in the order in which they were sent, m26 after z."""

    def __init__(
        self, directory: Path, *, make_publisher: Callable[[], Publisher] = make_publisher
    ) -> None:
        self._make_publisher = make_publisher
        self.ledger = directory / "ledger"
        self.gate = directory / "gate"
        self.queue = new_queue()
        self.ids: dict[str, uuid.UUID] = {}

    def send(self, *does: str, alone: int = 0, **fields: Any) -> None:
        """Send tasks in one message.

        Args:
            alone: send each in a message of its own instead, that lets so many run together.
        """
        tenant = make_tenant("default")
        for place, do in enumerate(does):
            name = ascii_lowercase[at] if (at := len(self.ids)) < ALPHABET else f"m{at}"
            payload = {"name": name, "do": do, "ledger": str(self.ledger), "gate": str(self.gate)}
            self.ids[name] = make_task(
                tenant,
                type="test.member",
                queue=self.queue,
                payload=payload,
                **({"priority": max(-place, -9), "max_retry": 1} | fields),
            )
        with connection.cursor() as cursor:
            tasks, _ = transitions.dispatch(cursor, queue=self.queue, room=len(does))
        assert [task.id for task in tasks] == list(self.ids.values())[-len(does) :]
        sent = [bundles.Bundle([one], alone) for one in tasks] if alone else [bundles.Bundle(tasks)]
        publisher = self._make_publisher()
        publisher.open()
        publisher.publish(sent)
        publisher.close()

    def dispatch(self) -> None:
        """Hand out what is ready, as the engine does."""
        with dispatcher() as engine:
            engine.round()

    def noted(self) -> list[str]:
        return self.ledger.read_text("utf-8").splitlines() if self.ledger.exists() else []

    def states(self) -> dict[str, str]:
        found = dict(Task.objects.filter(id__in=self.ids.values()).values_list("id", "state"))
        return {name: found[task_id] for name, task_id in self.ids.items()}

    def wait_for(self, line: str) -> None:
        wait_for(lambda: line in self.noted(), reason=f"{line!r} in the ledger", seconds=30)

    def wait_until(self, **states: str) -> None:
        def are_reached() -> bool:
            nonlocal seen
            seen = {name: self.states()[name] for name in states}
            return seen == states

        seen: dict[str, str] = {}
        try:
            wait_for(are_reached, seconds=30)
        except AssertionError as error:
            raise AssertionError(f"{states}, not {seen}") from error

    def outcomes(self, name: str) -> list[tuple[int, str]]:
        found = Attempt.objects.filter(task_id=self.ids[name]).order_by("epoch")
        return list(found.values_list("attempt", "outcome"))

    def reasons(self, name: str) -> list[str]:
        found = Event.objects.filter(task_id=self.ids[name], data__has_key="reason")
        return [event.data["reason"] for event in found.order_by("seq")]

    def is_legal(self) -> bool:
        with connection.cursor() as cursor:
            found = violations(read_history(cursor))
        return [text for text in found if any(str(one) in text for one in self.ids.values())] == []
