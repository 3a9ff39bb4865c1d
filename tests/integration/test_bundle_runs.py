"""A bundle in a real worker: each task keeps what is its own, whatever becomes of the others."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.dispatch.publish import make_publisher
from tasks_app.models import Attempt, Event, Task
from tests.engines import dispatcher, new_queue
from tests.factories import make_task, make_tenant, task_state
from tests.processes import running_worker, wait_for
from tests.protocol.checkers import read_history, violations

pytestmark = pytest.mark.django_db(transaction=True)


class Bundle:
    """Tasks `test.member` of one message, named a, b, c ... in its order."""

    def __init__(self, directory: Path) -> None:
        self.ledger = directory / "ledger"
        self.gate = directory / "gate"
        self.queue = new_queue()
        self.ids: dict[str, uuid.UUID] = {}

    def send(self, *does: str, **fields: Any) -> None:
        tenant = make_tenant("default")
        for place, do in enumerate(does):
            name = "abcdefgh"[place]
            payload = {"name": name, "do": do, "ledger": str(self.ledger), "gate": str(self.gate)}
            self.ids[name] = make_task(
                tenant,
                type="test.member",
                queue=self.queue,
                payload=payload,
                priority=-place,
                **({"max_retry": 1} | fields),
            )
        with connection.cursor() as cursor:
            tasks, _ = transitions.dispatch(cursor, queue=self.queue, room=len(does))
        assert [task.id for task in tasks] == list(self.ids.values())
        publisher = make_publisher()
        publisher.open()
        publisher.publish([tasks])
        publisher.close()

    def dispatch(self) -> None:
        """Hand out what is ready, as the engine does."""
        with dispatcher() as engine:
            engine.round()

    def noted(self) -> list[str]:
        return self.ledger.read_text("utf-8").splitlines() if self.ledger.exists() else []

    def states(self) -> dict[str, str]:
        return {name: task_state(task_id) for name, task_id in self.ids.items()}

    def wait_for(self, line: str) -> None:
        wait_for(lambda: line in self.noted(), reason=f"{line!r} in the ledger", seconds=30)

    def wait_until(self, **states: str) -> None:
        wait_for(
            lambda: {name: self.states()[name] for name in states} == states,
            reason=f"{states}, not {self.states()}",
            seconds=30,
        )

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


@pytest.fixture
def bundle(valkey: Any, tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


def test_they_run_in_their_order_and_attempts_tell_the_time_of_the_handler_alone(
    bundle: Bundle,
) -> None:
    bundle.send("end", "hold", "end", process_timeout=60)
    with running_worker(queues=bundle.queue):
        bundle.wait_for("b begin")
        bundle.gate.touch()
        bundle.wait_until(a="success", b="success", c="success")
    assert [line for line in bundle.noted() if line.endswith("begin")] == [
        "a begin",
        "b begin",
        "c begin",
    ]
    first, held, last = (Attempt.objects.get(task_id=one) for one in bundle.ids.values())
    assert first.finished_at <= held.started_at <= held.finished_at <= last.started_at
    assert [Task.objects.get(id=one.task_id).started_at for one in (held, last)] == [
        held.started_at,
        last.started_at,
    ]
    assert bundle.is_legal()


def test_one_that_fails_is_retried_alone(bundle: Bundle) -> None:
    bundle.send("end", "fail", "end")
    with running_worker(queues=bundle.queue):
        bundle.wait_until(a="success", b="retrying", c="success")
    assert bundle.outcomes("b") == [(1, "failed")]
    assert bundle.outcomes("c") == [(1, "success")]
    assert bundle.is_legal()


def test_what_waits_behind_a_long_one_is_handed_back_and_what_ended_is_written(
    bundle: Bundle,
) -> None:
    bundle.send("end", "hold", "end", "end", max_retry=0)
    with running_worker(queues=bundle.queue, concurrency=1, TASKMILL_LEASE_SECONDS="600"):
        bundle.wait_until(a="success", b="running", c="queued", d="queued")
        assert bundle.reasons("c") == ["held_up"]
        bundle.gate.touch()
        bundle.wait_until(b="success")
        assert bundle.states()["c"] == "queued"
        bundle.dispatch()
        bundle.wait_until(c="success", d="success")
    assert bundle.outcomes("c") == [(1, "interrupted"), (1, "success")]
    assert bundle.noted().count("c begin") == 1
    assert bundle.is_legal()


def test_a_child_that_dies_loses_the_attempt_it_made_and_no_other(bundle: Bundle) -> None:
    bundle.send("end", "hold", "exit", "end", max_retry=0)
    with running_worker(queues=bundle.queue, concurrency=1):
        bundle.wait_until(a="success")
        bundle.gate.touch()
        bundle.wait_until(c="error", d="queued")
        assert bundle.outcomes("c") == [(1, "lost")]
        assert bundle.outcomes("d") == [(1, "interrupted")]
        assert bundle.reasons("d") == ["worker_lost"]
        assert bundle.outcomes("b") in ([(1, "interrupted")], [(1, "success")])
        bundle.dispatch()
        bundle.wait_until(a="success", b="success", d="success")
    assert bundle.noted().count("a begin") == 1
    assert bundle.is_legal()


def test_a_cancel_finds_one_that_has_not_begun(bundle: Bundle) -> None:
    bundle.send("hold", "hang", max_retry=0)
    with running_worker(queues=bundle.queue, concurrency=1, TASKMILL_LEASE_SECONDS="600"):
        bundle.wait_for("a begin")
        _cancel(bundle.ids["b"])
        bundle.gate.touch()
        bundle.wait_until(a="success", b="cancelled")
    assert bundle.is_legal()


def test_its_timeout_counts_from_its_own_begin(bundle: Bundle) -> None:
    bundle.send("end", "hold", max_retry=0, process_timeout=1)
    with running_worker(queues=bundle.queue, concurrency=1):
        bundle.wait_until(a="success", b="timeout")
    assert "b ProcessTimeout" in bundle.noted()
    [attempt] = Attempt.objects.filter(task_id=bundle.ids["b"])
    assert (attempt.finished_at - attempt.started_at).total_seconds() >= 1.0
    assert bundle.is_legal()


def test_a_worker_that_stops_ends_the_one_that_runs_and_hands_the_others_back(
    bundle: Bundle,
) -> None:
    bundle.send("hold", "end", "end", max_retry=0)
    with running_worker(
        queues=bundle.queue, concurrency=1, TASKMILL_SHUTDOWN_GRACE_SECONDS="20"
    ) as worker:
        bundle.wait_for("a begin")
        worker.popen.terminate()
        bundle.gate.touch()
        worker.popen.wait(30)
    assert bundle.states() == {"a": "success", "b": "queued", "c": "queued"} or (
        bundle.states() == dict.fromkeys("abc", "success")
    )
    assert bundle.is_legal()


def _cancel(task_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        transitions.request_cancel(
            cursor,
            tenant_id=Task.objects.get(id=task_id).tenant_id,
            task_id=task_id,
            actor="tests",
            reason="",
            grace_seconds=None,
        )
