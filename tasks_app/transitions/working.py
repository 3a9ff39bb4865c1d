"""Verbs succeed, fail, retry, interrupt and confirm_cancel: how a worker ends its attempt.

Every write after the claim carries the claim's epoch and touches no row without it. A refused write
means that the attempt
was rescued, expired or finished by somebody else: the caller records it with `record_stale` and
stays silent.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tasks_app.db import Cursor, array_of
from tasks_app.transitions.sql import (
    ENDED,
    MOVED,
    NO_LEASE,
    PROCESSING_FROM,
    RING_WHERE_FREED,
    RING_WHO_WAITS,
    STATE,
    TOUCH,
    attempt,
    event,
)

_GUARD = (
    f"WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND {STATE} IN ('running', 'cancelling')"
)

_BEGAN = "started_at = t.started_at + make_interval(secs => %(began)s::float8)"

_SUCCEED = f"""
WITH done AS MATERIALIZED (
    SELECT t.id, d.result, d.began, d.took, d.place
    FROM ROWS FROM (unnest(%(ids)s::uuid[]), unnest(%(epochs)s::bigint[]),
            jsonb_array_elements(%(results)s::jsonb), unnest(%(began)s::float8[]),
            unnest(%(took)s::float8[])) WITH ORDINALITY AS d(id, epoch, result, began, took, place)
    JOIN taskmill_task t ON t.id = d.id
    WHERE t.epoch = d.epoch AND {STATE} IN ('running', 'cancelling')
    ORDER BY t.id FOR UPDATE OF t
), moved AS (
    UPDATE taskmill_task t SET state = 'success', result = d.result, error = NULL, progress = 100,
        started_at = t.started_at + make_interval(secs => d.began),
        finished_at = greatest(t.updated_at, taskmill_now()), {NO_LEASE}, {TOUCH}
    FROM done d WHERE t.id = d.id RETURNING {ENDED}, d.took, d.place
), {
    event(
        kind="'task.succeeded'",
        from_state=PROCESSING_FROM,
        actor="m.worker",
        order="place",
    )
},
{
    attempt(
        outcome="'success'",
        finished="least(m.updated_at, m.started_at + make_interval(secs => m.took))",
    )
}
SELECT id, {RING_WHERE_FREED}, {RING_WHO_WAITS} FROM moved
"""  # noqa: S608 - built from constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """An attempt that came to its end.

    Attributes:
        result: JSON text.
        began_seconds: from its claim to the call of the handler.
        took_seconds: from then to its end; None for "until it is written".
    """

    id: uuid.UUID
    epoch: int
    result: str
    began_seconds: float = 0.0
    took_seconds: float | None = None


def succeed(cursor: Cursor, ended: Sequence[Success]) -> set[uuid.UUID]:
    """Store the results of attempts and end their tasks, in one statement.

    Args:
        ended: of different tasks.

    Returns:
        The tasks that ended; the epochs of the others were not current.
    """
    values = {
        "ids": array_of(one.id for one in ended),
        "epochs": array_of(one.epoch for one in ended),
        "results": f"[{','.join(one.result for one in ended)}]",
        "began": array_of(one.began_seconds for one in ended),
        "took": array_of(one.took_seconds for one in ended),
    }
    cursor.execute(_SUCCEED, values)
    return {row[0] for row in cursor.fetchall()}


_FAIL = f"""
WITH moved AS (
    UPDATE taskmill_task t SET state = %(state)s, error = %(error)s::jsonb, frame = %(frame)s,
        {_BEGAN}, finished_at = greatest(t.updated_at, taskmill_now()), {NO_LEASE}, {TOUCH}
    {_GUARD} RETURNING {ENDED}
), {
    event(
        kind="'task.' || m.state",
        from_state=PROCESSING_FROM,
        actor="m.worker",
        data="%(error)s::jsonb",
    )
},
{attempt(outcome="%(outcome)s::text", error="%(error)s::jsonb", traceback="%(traceback)s::text")}
SELECT {RING_WHERE_FREED}, {RING_WHO_WAITS} FROM moved
"""  # noqa: S608 - built from constants


def fail(
    cursor: Cursor,
    task_id: uuid.UUID,
    *,
    epoch: int,
    state: str,
    error: str,
    traceback: str = "",
    frame: str | None = None,
    began_seconds: float = 0.0,
) -> bool:
    """End the task as `failed`, `error` or `timeout`; False where the epoch is not current.

    Args:
        error: the JSON text of `{code, type, message, retryable, attempt}`.
        frame: where the handler's own code raised, at most 200 characters; part of the cause that
            dead letters are grouped by.
        began_seconds: from its claim to the call of the handler.
    """
    outcome = "timeout" if state == "timeout" else "failed"
    values = {
        "id": task_id,
        "epoch": epoch,
        "state": state,
        "error": error,
        "traceback": traceback,
        "frame": frame,
        "outcome": outcome,
        "began": began_seconds,
    }
    cursor.execute(_FAIL, values)
    return cursor.fetchone() is not None


_RETRY = f"""
WITH moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN t.state = 'running' THEN 'retrying' ELSE 'cancelled' END, error =
            %(error)s::jsonb,
        run_at = taskmill_now() + make_interval(secs => %(delay)s::float8), {_BEGAN},
        finished_at = CASE WHEN t.state = 'cancelling' THEN greatest(t.updated_at, taskmill_now())
            END, {NO_LEASE}, {TOUCH}
    {_GUARD} RETURNING {ENDED}
), {
    event(
        kind="'task.' || m.state",
        from_state=PROCESSING_FROM,
        actor="m.worker",
        data="%(error)s::jsonb",
    )
},
{attempt(outcome="%(outcome)s::text", error="%(error)s::jsonb", traceback="%(traceback)s::text")}
SELECT state, {RING_WHERE_FREED} FROM moved
"""  # noqa: S608 - built from constants


def retry(
    cursor: Cursor,
    task_id: uuid.UUID,
    *,
    epoch: int,
    delay_seconds: float,
    error: str,
    traceback: str = "",
    is_timeout: bool = False,
    began_seconds: float = 0.0,
) -> str | None:
    """End the attempt and plan the next one; a task asked to stop ends as cancelled instead.

    Args:
        error: the JSON text of `{code, type, message, retryable, attempt}`.
        began_seconds: from its claim to the call of the handler.

    Returns:
        The new state, or None where the epoch is not current.
    """
    outcome = "timeout" if is_timeout else "failed"
    values = {
        "id": task_id,
        "epoch": epoch,
        "delay": delay_seconds,
        "error": error,
        "traceback": traceback,
        "outcome": outcome,
        "began": began_seconds,
    }
    cursor.execute(_RETRY, values)
    row = cursor.fetchone()
    return None if row is None else str(row[0])


_INTERRUPT = f"""
WITH old AS MATERIALIZED (
    SELECT t.id, t.queued_at
    FROM unnest(%(ids)s::uuid[], %(epochs)s::bigint[]) AS i(id, epoch)
    JOIN taskmill_task t ON t.id = i.id
    WHERE t.epoch = i.epoch AND {STATE} IN ('running', 'cancelling')
    ORDER BY t.id FOR UPDATE OF t
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN t.state = 'running' THEN 'queued' ELSE 'cancelled' END,
        attempt = t.attempt - (t.state = 'running')::int, interrupts = t.interrupts + 1,
        queued_at = taskmill_now(), finished_at = CASE WHEN t.state = 'cancelling'
            THEN greatest(t.updated_at, taskmill_now()) END, {NO_LEASE}, {TOUCH}
    FROM old WHERE t.id = old.id
    RETURNING {MOVED}, t.worker, old.queued_at, t.started_at, t.queue
), {
    event(
        kind="'task.' || m.state",
        from_state=PROCESSING_FROM,
        actor="m.worker",
        data="jsonb_build_object('reason', %(reason)s::text)",
    )
},
{attempt(outcome="'interrupted'", number="m.attempt + (m.state = 'queued')::int")}
SELECT m.id, m.state, (SELECT count(pg_notify('taskmill_dispatch', q.queue))
    FROM (SELECT DISTINCT queue FROM moved) q)
FROM moved m
"""  # noqa: S608 - built from constants


def interrupt(
    cursor: Cursor, held: Sequence[tuple[uuid.UUID, int]], *, reason: str
) -> dict[uuid.UUID, str]:
    """Hand attempts back that a worker will not make or not end: refunded, the epochs are not.

    Args:
        held: task ids with the epochs of their claims.
        reason: for the events: `worker_shutdown`, `held_up` (another task of its message runs
            long), `worker_lost` (the child that was to run it died).

    Returns:
        The new states; tasks whose epoch is not current are missing.
    """
    values = {
        "ids": array_of(one[0] for one in held),
        "epochs": array_of(one[1] for one in held),
        "reason": reason,
    }
    cursor.execute(_INTERRUPT, values)
    return {row[0]: str(row[1]) for row in cursor.fetchall()}


_CANCELLED_DATA = """jsonb_build_object('how', %(how)s::text, 'by', m.cancel_requested_by,
    'reason', m.cancel_reason)"""

_CONFIRM_CANCEL = f"""
WITH moved AS (
    UPDATE taskmill_task t SET state = 'cancelled', finished_at = greatest(t.updated_at,
        taskmill_now()), {NO_LEASE}, {TOUCH}
    WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND {STATE} = 'cancelling'
    RETURNING {ENDED}, t.cancel_requested_by, t.cancel_reason
), {
    event(
        kind="'task.cancelled'",
        from_state="'cancelling'",
        actor="m.worker",
        data=_CANCELLED_DATA,
    )
},
{attempt(outcome="'cancelled'")}
SELECT {RING_WHERE_FREED} FROM moved
"""  # noqa: S608 - built from constants


def confirm_cancel(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, how: str) -> bool:
    """Say that the task stopped: `how` is cooperative, sigterm, sigkill or kill_unconfirmed."""
    cursor.execute(_CONFIRM_CANCEL, {"id": task_id, "epoch": epoch, "how": how})
    return cursor.fetchone() is not None


_STALE = """
INSERT INTO taskmill_stale_result (task_id, epoch, verb, worker, at, digest)
VALUES (%(id)s::uuid, %(epoch)s, %(verb)s, %(worker)s, taskmill_now(), %(digest)s)
"""


def record_stale(
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, verb: str, worker: str, digest: str = ""
) -> None:
    """Keep the fact that a write was refused."""
    values = {"id": task_id, "epoch": epoch, "verb": verb, "worker": worker, "digest": digest}
    cursor.execute(_STALE, values)
