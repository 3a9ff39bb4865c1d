"""Use cases of the scheduler: submit what schedules fire, inside its transaction, and look after
what became of it.

Called through `tasks_app.public`; a schedule's firing and its task commit together or not at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from tasks_app.errors import DuplicateTask, RequestError
from tasks_app.registry import all_handlers
from tasks_app.services.caller import Caller
from tasks_app.services.defaults import Origin, resolve
from tasks_app.services.submission import read_submission
from tasks_app.transitions import NewTask, insert_tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledSubmission:
    """A task that a schedule asks for.

    Attributes:
        schedule: the schedule's key, shown by the task; at most 100 characters.
        payload: JSON values.
        options: those of the API's submission body.
    """

    tenant_id: int
    schedule: str
    type: str
    payload: Any
    options: dict[str, Any] = field(default_factory=dict)


def check_scheduled(wanted: ScheduledSubmission) -> None:
    """Prove that a submission would be accepted.

    Raises:
        UnknownTaskType, ValidationFailed, PayloadTooLarge: as `submit`.
    """
    _resolved(wanted)


def submit_scheduled(wanted: Sequence[ScheduledSubmission]) -> list[uuid.UUID | RequestError]:
    """Submit tasks in one statement, in the caller's transaction.

    Returns:
        For each, in order, the new task's id, or why there is none.
    """
    resolved = [_resolved_or_error(one) for one in wanted]
    tasks = [one for one in resolved if isinstance(one, NewTask)]
    inserted: set[uuid.UUID] = set()
    if tasks:
        with connection.cursor() as cursor:
            inserted = {row.id for row in insert_tasks(cursor, tasks)}
    return [_outcome(one, inserted) for one in resolved]


def _resolved(wanted: ScheduledSubmission) -> NewTask:
    body = {**wanted.options, "type": wanted.type, "payload": wanted.payload}
    actor = f"schedule:{wanted.schedule}"[:120]
    return resolve(
        Caller(tenant_id=wanted.tenant_id, actor=actor),
        read_submission(body),
        origin=Origin(schedule=wanted.schedule),
    )


def _resolved_or_error(wanted: ScheduledSubmission) -> NewTask | RequestError:
    try:
        return _resolved(wanted)
    except RequestError as error:
        return error


def _outcome(one: NewTask | RequestError, inserted: set[uuid.UUID]) -> uuid.UUID | RequestError:
    if isinstance(one, RequestError):
        return one
    return one.id if one.id in inserted else DuplicateTask()


_STATES = "SELECT id, state, finished_at FROM taskmill_task WHERE id = ANY(%(ids)s)"


def task_states(ids: Collection[uuid.UUID]) -> dict[uuid.UUID, tuple[str, Any]]:
    """Give `(state, finished_at)` of tasks of any tenant by id; purged ones are missing."""
    if not ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_STATES, {"ids": list(ids)})
        return {row[0]: (row[1], row[2]) for row in cursor.fetchall()}


def is_task_type(name: str) -> bool:
    """Say whether a handler of this type is registered in this process."""
    return any(declared.type == name for declared in all_handlers())
