"""Use cases submit, submit many and rerun: accepted means committed with its first event.

The broker is never asked. One statement per task, or per thousand of a bulk; inside a caller's
transaction the row joins it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db import connection, transaction

from tasks_app.db import prepared_cursor
from tasks_app.errors import DuplicateTask, RequestError, ValidationFailed
from tasks_app.selectors import find_task, live_task_of_key
from tasks_app.services.caller import Caller
from tasks_app.services.defaults import BY_HAND, Origin, resolve
from tasks_app.services.submission import Submission
from tasks_app.transitions import NewTask, insert_tasks

CHUNK: Final = 1000
UNIQUE_TRIES: Final = 5


class Unset:
    """Stands for an argument that was not given, where None is a value."""


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of a submission.

    Attributes:
        task_id: the new task, or the live one that holds the unique key.
        is_existing: whether it was there before.
    """

    task_id: uuid.UUID
    is_existing: bool = False


def submit_task(*, caller: Caller, submission: Submission, origin: Origin = BY_HAND) -> Submitted:
    """Accept one task.

    Raises:
        UnknownTaskType, ValidationFailed, PayloadTooLarge: see `defaults.resolve`.
        DuplicateTask: `unique.on_conflict` is `reject` and `task_id` holds the key.

    Concurrency: the unique index arbitrates between submissions of one key.
    """
    return _submit(resolve(caller, submission, origin=origin), submission)


def _submit(task: NewTask, submission: Submission) -> Submitted:
    for _ in range(UNIQUE_TRIES):
        with prepared_cursor() as cursor:
            if insert_tasks(cursor, [task]):
                return Submitted(task_id=task.id)
        holder = live_task_of_key(tenant_id=task.tenant_id, unique_key=str(task.unique_key))
        if holder is not None:
            return _existing(holder, submission)
    raise DuplicateTask("tasks with this unique key come and go too quickly; try again")


def _existing(holder: uuid.UUID, submission: Submission) -> Submitted:
    if submission.unique is not None and submission.unique.on_conflict == "reject":
        raise DuplicateTask(task_id=str(holder))
    return Submitted(task_id=holder, is_existing=True)


def submit_many(
    *,
    caller: Caller,
    submissions: Sequence[Submission | RequestError],
    is_atomic: bool,
    origin: Origin = BY_HAND,
) -> list[Submitted | RequestError]:
    """Accept many tasks in one transaction, a thousand per statement.

    Args:
        submissions: in order; an error stands for an item already found wrong and keeps its place.
        is_atomic: all or nothing.

    Returns:
        One outcome per item, in order.

    Raises:
        ValidationFailed: atomic and an item is wrong; `errors` name each by `/items/N`. Nothing
            was stored.
    """
    outcomes: list[Submitted | RequestError | NewTask] = [
        _resolved(caller, one, number, origin) for number, one in enumerate(submissions)
    ]
    with transaction.atomic():
        if is_atomic:
            _refuse_all(outcomes)
        inserted = _insert([one for one in outcomes if isinstance(one, NewTask)])
        final = [
            _outcome(one, submissions[number], inserted) for number, one in enumerate(outcomes)
        ]
        if is_atomic:
            _refuse_all(final)
    return final


def _resolved(
    caller: Caller, one: Submission | RequestError, number: int, origin: Origin
) -> NewTask | RequestError:
    if isinstance(one, RequestError):
        return one
    try:
        return resolve(caller, one, origin=origin, at=f"/items/{number}")
    except RequestError as error:
        return error


def _insert(tasks: list[NewTask]) -> set[uuid.UUID]:
    ordered = sorted(tasks, key=lambda task: task.unique_key or "")
    inserted: set[uuid.UUID] = set()
    with connection.cursor() as cursor:
        for chunk in _chunks(ordered):
            inserted.update(row.id for row in insert_tasks(cursor, chunk))
    return inserted


def _chunks(tasks: list[NewTask]) -> Iterator[list[NewTask]]:
    for start in range(0, len(tasks), CHUNK):
        yield tasks[start : start + CHUNK]


def _outcome(
    one: NewTask | Submitted | RequestError,
    submission: Submission | RequestError,
    inserted: set[uuid.UUID],
) -> Submitted | RequestError:
    if not isinstance(one, NewTask):
        return one
    if one.id in inserted or isinstance(submission, RequestError):
        return Submitted(task_id=one.id)
    try:
        return _submit(one, submission)
    except RequestError as error:
        return error


def _refuse_all(outcomes: Sequence[object]) -> None:
    faults: list[dict[str, str]] = []
    for number, one in enumerate(outcomes):
        if isinstance(one, ValidationFailed):
            faults.extend(one.errors)
        elif isinstance(one, RequestError):
            pointer = f"/items/{number}"
            faults.append({"pointer": pointer, "code": one.code, "detail": one.detail})
    if faults:
        raise ValidationFailed(
            f"nothing was stored: {faults[0]['pointer']}: {faults[0]['detail']}", errors=faults
        )


_COPIED: Final = (
    "type",
    "queue",
    "priority",
    "max_retry",
    "queue_timeout",
    "process_timeout",
    "metadata",
    "tags",
    "concurrency_key",
    "max_concurrency",
    "concurrency_strategy",
    "webhook_urls",
)


def rerun_task(
    *, caller: Caller, task_id: uuid.UUID, payload: Any = UNSET, traceparent: str = ""
) -> Submitted:
    """Submit a task like another one, whatever became of that; `retry_of` names it.

    Everything but its unique key, delay, parent and schedule is taken over.

    Args:
        payload: another payload, or UNSET for the same.

    Raises:
        TaskNotFound: no such task of this tenant.
        UnknownTaskType, ValidationFailed, PayloadTooLarge: see `defaults.resolve`.
    """
    row = find_task(tenant_id=caller.tenant_id, task_id=task_id)
    submission = Submission.model_construct(
        **{name: row[name] for name in _COPIED},
        payload=row["payload"] if payload is UNSET else payload,
    )
    task = resolve(caller, submission, origin=Origin(retry_of=task_id, traceparent=traceparent))
    with connection.cursor() as cursor:
        insert_tasks(cursor, [_with_policy(task, row["retry_policy"])])
    return Submitted(task_id=task.id)


def _with_policy(task: NewTask, policy: dict[str, Any] | None) -> NewTask:
    return replace(task, retry_policy=policy)
