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
from tasks_app.services.admission import Applicant, Submitted, admit
from tasks_app.services.caller import Caller
from tasks_app.services.defaults import Origin, resolve
from tasks_app.services.new_queues import refused_queues
from tasks_app.services.submission import read_submission


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
        UnknownTaskType, ValidationFailed, PayloadTooLarge, TooManyQueues: as `submit`.
    """
    for refusal in refused_queues([_resolved(wanted).task.queue]).values():
        raise refusal


def submit_scheduled(wanted: Sequence[ScheduledSubmission]) -> list[uuid.UUID | RequestError]:
    """Submit tasks, one statement for all that meet no key in use and no quota, in the caller's
    transaction.

    Returns:
        For each, in order, the new task's id, or why there is none.
    """
    resolved = [_resolved_or_error(one) for one in wanted]
    admitted = iter(admit([one for one in resolved if isinstance(one, Applicant)]))
    return [one if isinstance(one, RequestError) else _outcome(next(admitted)) for one in resolved]


def _resolved(wanted: ScheduledSubmission) -> Applicant:
    body = {**wanted.options, "type": wanted.type, "payload": wanted.payload}
    actor = f"schedule:{wanted.schedule}"[:120]
    submission = read_submission(body)
    task = resolve(
        Caller(tenant_id=wanted.tenant_id, actor=actor),
        submission,
        origin=Origin(schedule=wanted.schedule),
    )
    return Applicant(task=task, unique=submission.unique)


def _resolved_or_error(wanted: ScheduledSubmission) -> Applicant | RequestError:
    try:
        return _resolved(wanted)
    except RequestError as error:
        return error


def _outcome(one: Submitted | RequestError) -> uuid.UUID | RequestError:
    if isinstance(one, RequestError):
        return one
    return DuplicateTask(task_id=str(one.task_id)) if one.is_existing else one.task_id


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
