"""What operators do to tasks in the admin: through the services, one by one, each answered."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tasks_app.errors import RequestError
from tasks_app.services.caller import Caller
from tasks_app.services.cancel import cancel_task
from tasks_app.services.redrive import retry_task

MAX_AT_ONCE: Final = 1_000
MAX_REASONS: Final = 5


@dataclass(frozen=True, slots=True)
class ActionReport:
    """What an action came to.

    Attributes:
        counts: outcomes with their numbers, as `{"cancelled": 3}`.
        refusals: reasons with the ids that they hold for.
    """

    counts: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, list[uuid.UUID]] = field(default_factory=dict)

    def done_text(self) -> str:
        """Say what was done; empty where nothing was."""
        return ", ".join(
            f"{number} {_tasks(number)} {word}" for word, number in self.counts.items()
        )

    def refused_texts(self) -> list[str]:
        """Say what was refused and why, at most `MAX_REASONS` reasons with one id each."""
        texts = [
            f"{len(ids)} {_tasks(len(ids))} refused ({ids[0]}{', ...' if len(ids) > 1 else ''}): "
            f"{reason}"
            for reason, ids in list(self.refusals.items())[:MAX_REASONS]
        ]
        more = len(self.refusals) - MAX_REASONS
        return [*texts, f"{more} more reasons"] if more > 0 else texts


def _tasks(number: int) -> str:
    return "task" if number == 1 else "tasks"


Place = tuple[uuid.UUID, int]


def cancel_tasks(places: Iterable[Place], *, actor: str) -> ActionReport:
    """Cancel tasks, given as `(task id, tenant id)`."""
    return _each(places, actor, _cancel)


def retry_tasks(places: Iterable[Place], *, actor: str) -> ActionReport:
    """Queue finished tasks that did not succeed once more, given as `(task id, tenant id)`."""
    return _each(places, actor, _retry)


def _cancel(caller: Caller, task_id: uuid.UUID) -> str:
    answer = cancel_task(caller=caller, task_id=task_id, reason="cancelled in the admin")
    return "cancelled" if answer.was_pending else "asked to stop"


def _retry(caller: Caller, task_id: uuid.UUID) -> str:
    retry_task(caller=caller, task_id=task_id)
    return "queued again"


def _each(
    places: Iterable[Place], actor: str, act: Callable[[Caller, uuid.UUID], str]
) -> ActionReport:
    report = ActionReport()
    for task_id, tenant_id in places:
        try:
            report.counts[act(Caller(tenant_id=tenant_id, actor=actor), task_id)] += 1
        except RequestError as error:
            report.refusals.setdefault(error.detail, []).append(task_id)
    return report
