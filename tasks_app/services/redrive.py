"""Use cases of failed tasks: run one again, run many dead letters again, purge them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import orjson
from django.db import IntegrityError, connection, transaction

from tasks_app.errors import DuplicateTask, StateConflict
from tasks_app.registry import get_handler
from tasks_app.selectors import find_state, find_task
from tasks_app.selectors.dead_letters import DeadLetterFilter
from tasks_app.services.caller import Caller
from tasks_app.services.defaults import checked_payload
from tasks_app.services.submit import UNSET
from tasks_app.transitions import purge, redrive

BATCH: Final = 500
MAX_AT_ONCE: Final = 10_000


def retry_task(*, caller: Caller, task_id: uuid.UUID, payload: Any = UNSET) -> None:
    """Queue a finished task that did not succeed once more, all attempts granted anew.

    Args:
        payload: another payload for the task, or UNSET for the one it has.

    Raises:
        TaskNotFound: no such task of this tenant.
        StateConflict: it is unfinished or succeeded; `state` says which.
        DuplicateTask: a live task holds its unique key.
        UnknownTaskType, ValidationFailed, PayloadTooLarge: the payload, as of a submission.
    """
    text = None if payload is UNSET else _checked(caller, task_id, payload)
    if _redrive(caller, [task_id], text):
        return
    state, _ = find_state(tenant_id=caller.tenant_id, task_id=task_id)
    raise StateConflict(f"the task is {state}; only a failed one is retried", state=state)


def _checked(caller: Caller, task_id: uuid.UUID, payload: Any) -> str:
    row = find_task(tenant_id=caller.tenant_id, task_id=task_id)
    return orjson.dumps(checked_payload(get_handler(row["type"]), payload)).decode()


def _redrive(caller: Caller, task_ids: Sequence[uuid.UUID], payload: str | None = None) -> int:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            taken = redrive(
                cursor,
                tenant_id=caller.tenant_id,
                task_ids=task_ids,
                actor=caller.actor,
                payload=payload,
            )
    except IntegrityError as error:
        raise DuplicateTask("a live task holds the unique key of this one") from error
    return len(taken)


def retry_dead_letters(
    *,
    caller: Caller,
    ids: Sequence[uuid.UUID] | None = None,
    wanted: DeadLetterFilter | None = None,
) -> int:
    """Queue dead letters once more, at most 10,000 a call, and say how many.

    Those whose unique key a live task holds are left as they are.

    Args:
        ids: these ones; or None for those that fit `wanted`.
    """
    chosen = _chosen(caller, ids, wanted)
    return sum(_retry_batch(caller, batch) for batch in _batches(chosen))


def _retry_batch(caller: Caller, batch: Sequence[uuid.UUID]) -> int:
    try:
        return _redrive(caller, batch)
    except DuplicateTask:
        if len(batch) == 1:
            return 0
        return sum(_retry_batch(caller, [one]) for one in batch)


def purge_dead_letters(
    *,
    caller: Caller,
    ids: Sequence[uuid.UUID] | None = None,
    wanted: DeadLetterFilter | None = None,
) -> int:
    """Delete dead letters with their history, at most 10,000 a call, and say how many.

    Args:
        ids: these ones; or None for those that fit `wanted`.
    """
    count = 0
    for batch in _batches(_chosen(caller, ids, wanted)):
        with transaction.atomic(), connection.cursor() as cursor:
            count += purge(cursor, tenant_id=caller.tenant_id, task_ids=batch)
    return count


def _batches(ids: Sequence[uuid.UUID]) -> list[Sequence[uuid.UUID]]:
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]


def _chosen(
    caller: Caller, ids: Sequence[uuid.UUID] | None, wanted: DeadLetterFilter | None
) -> list[uuid.UUID]:
    filters = wanted or DeadLetterFilter()
    query = f"""
        SELECT t.id FROM taskmill_task t WHERE {filters.conditions()}
          AND (%(ids)s::uuid[] IS NULL OR t.id = ANY(%(ids)s::uuid[]))
        ORDER BY t.finished_at DESC, t.id DESC LIMIT %(most)s
    """  # noqa: S608 - built from constants
    values = filters.values(caller.tenant_id)
    values |= {"ids": None if ids is None else list(ids), "most": MAX_AT_ONCE}
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return [row[0] for row in cursor.fetchall()]
