"""Use cases submit, submit many and rerun: accepted means committed with its first event.

The broker is never asked. One statement per task, or per portion of a bulk; inside a caller's
transaction the row joins it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from django.db import DatabaseError, DataError, IntegrityError, connection, transaction

from tasks_app.errors import QuotaExceeded, RequestError, ValidationFailed
from tasks_app.selectors import find_task
from tasks_app.services.admission import Applicant, Outcome, Submitted, admit
from tasks_app.services.caller import Caller
from tasks_app.services.defaults import BY_HAND, Origin, Resolver, resolve
from tasks_app.services.lineage import check_lineage
from tasks_app.services.submission import Submission
from tasks_app.transitions import NewTask


class Unset:
    """Stands for an argument that was not given, where None is a value."""


UNSET: Final = Unset()


def submit_task(*, caller: Caller, submission: Submission, origin: Origin = BY_HAND) -> Submitted:
    """Accept one task from Python, in whose transaction it may be; see `applicant_of` and
    `admitted`.
    """
    applicant = applicant_of(caller=caller, submission=submission, origin=origin)
    return admitted(applicant, is_brief=not connection.in_atomic_block)


def applicant_of(*, caller: Caller, submission: Submission, origin: Origin = BY_HAND) -> Applicant:
    """Give the task that a submission asks for; nothing is stored yet.

    Raises:
        UnknownTaskType, ValidationFailed, PayloadTooLarge: see `defaults.resolve`.
        TaskTooDeep, TooManyChildren: see `lineage.check_lineage`.
    """
    check_lineage(tenant_id=caller.tenant_id, origin=origin)
    task = resolve(caller, submission, origin=origin)
    return Applicant(task=task, unique=submission.unique)


def admitted(applicant: Applicant, *, is_shown: bool = False, is_brief: bool = True) -> Submitted:
    """Accept one task.

    Args:
        is_shown: see `admission.admit`; so `is_brief`.

    Raises:
        DuplicateTask: `task_id` holds its unique key and `on_conflict` does not give way.
        QuotaExceeded: the tenant or the queue has no room; nothing was stored.
        TooManyQueues: its queue is not there, and no more are made.

    Concurrency: see `admission.admit`.
    """
    [outcome] = admit([applicant], is_shown=is_shown, is_brief=is_brief)
    if isinstance(outcome, RequestError):
        raise outcome
    return outcome


def admit_together(applicants: Sequence[Applicant]) -> list[Outcome | DatabaseError]:
    """Accept tasks of different callers in one statement, each as if it had come alone, and give
    their values.

    What the store cannot hold of one does not keep the others out: then each is tried alone. After
    any other error of the database nothing is tried again, since the statement may have been
    carried out.

    Returns:
        What became of each, in order.
    """
    try:
        return [*admit(applicants, is_shown=True)]
    except (DataError, IntegrityError) as error:
        if len(applicants) == 1:
            return [error]
        return [outcome for one in applicants for outcome in admit_together([one])]
    except DatabaseError as error:
        return [error] * len(applicants)


def submit_many(
    *,
    caller: Caller,
    submissions: Sequence[Submission | RequestError],
    is_atomic: bool,
    origin: Origin = BY_HAND,
) -> list[Submitted | RequestError]:
    """Accept many tasks in one transaction, in statements of at most `admission.CHUNK` tasks.

    Args:
        submissions: in order; an error stands for an item already found wrong and keeps its place.
        is_atomic: all or nothing.

    Returns:
        One outcome per item, in order.

    Raises:
        ValidationFailed: atomic and an item is wrong; `errors` name each by `/items/N`. Nothing
            was stored.
        QuotaExceeded: atomic and there is no room for all; nothing was stored.
    """
    resolver = Resolver(caller, origin=origin)
    resolved = [_resolved(resolver, one, number) for number, one in enumerate(submissions)]
    with transaction.atomic():
        if is_atomic:
            _refuse_all(resolved)
        admitted = iter(admit([one for one in resolved if isinstance(one, Applicant)]))
        final = [one if isinstance(one, RequestError) else next(admitted) for one in resolved]
        if is_atomic:
            _refuse_all(final)
    return final


def _resolved(
    resolver: Resolver, one: Submission | RequestError, number: int
) -> Applicant | RequestError:
    if isinstance(one, RequestError):
        return one
    try:
        task = resolver.resolve(one, at=f"/items/{number}")
    except RequestError as error:
        return error
    return Applicant(task=task, unique=one.unique)


def _refuse_all(outcomes: Sequence[object]) -> None:
    faults: list[dict[str, str]] = []
    more = 0
    for number, one in enumerate(outcomes):
        if isinstance(one, QuotaExceeded):
            raise one
        if isinstance(one, ValidationFailed):
            faults.extend(one.errors)
            more += one.fields.get("more_errors", 0)
        elif isinstance(one, RequestError):
            pointer = f"/items/{number}"
            faults.append({"pointer": pointer, "code": one.code, "detail": one.detail})
    if faults:
        raise ValidationFailed(
            f"nothing was stored: {faults[0]['pointer']}: {faults[0]['detail']}",
            errors=faults,
            more_errors=more,
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
    "fair_key",
    "webhook_urls",
)


def rerun_task(
    *, caller: Caller, task_id: uuid.UUID, payload: Any = UNSET, origin: Origin = BY_HAND
) -> Submitted:
    """Submit a task like another one, whatever became of that; `retry_of` names it.

    Everything but its unique key, delay, parent and schedule is taken over.

    Args:
        payload: another payload, or UNSET for the same.

    Raises:
        TaskNotFound: no such task of this tenant.
        UnknownTaskType, ValidationFailed, PayloadTooLarge: see `defaults.resolve`.
        QuotaExceeded: the tenant or the queue has no room; nothing was stored.
    """
    row = find_task(tenant_id=caller.tenant_id, task_id=task_id)
    submission = Submission.model_construct(
        **{name: row[name] for name in _COPIED},
        payload=row["payload"] if payload is UNSET else payload,
    )
    task = resolve(caller, submission, origin=replace(origin, retry_of=task_id))
    return admitted(Applicant(task=_with_policy(task, row["retry_policy"])), is_shown=True)


def _with_policy(task: NewTask, policy: dict[str, Any] | None) -> NewTask:
    return replace(task, retry_policy=policy)
