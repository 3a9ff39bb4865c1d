"""Verbs succeed, fail, retry, interrupt and confirm_cancel: how a worker ends its attempt.

Every write after the claim carries the claim's epoch and touches no row without it. A refused write
means that the attempt
was rescued, expired or finished by somebody else: the caller records it with `record_stale` and
stays silent.
"""

from __future__ import annotations

import uuid

from tasks_app.db import Cursor
from tasks_app.transitions.claiming import CLAIM_PARTS, CLAIM_ROW, Claim, HintClaim
from tasks_app.transitions.sql import (
    ENDED,
    MOVED,
    NO_LEASE,
    PROCESSING_FROM,
    STATE,
    TOUCH,
    attempt,
    event,
    reason,
)

_GUARD = (
    f"WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND {STATE} IN ('running', 'cancelling')"
)

_SUCCEED_PARTS = f"""moved AS (
    UPDATE taskmill_task t SET state = 'success', result = %(result)s::jsonb, error = NULL, progress
        = 100,
        finished_at = greatest(t.updated_at, taskmill_now()), {NO_LEASE}, {TOUCH}
    {_GUARD} RETURNING {ENDED}
), {event(kind="'task.succeeded'", from_state=PROCESSING_FROM, actor="m.worker")},
{attempt(outcome="'success'")}"""  # noqa: S608 - built from constants

_SUCCEED = f"WITH {_SUCCEED_PARTS} SELECT 1 FROM moved"  # noqa: S608 - built from constants

_SUCCEED_AND_CLAIM = f"""
WITH {_SUCCEED_PARTS}, {CLAIM_PARTS}, next AS (
    SELECT {CLAIM_ROW} FROM claimed m JOIN taskmill_tenant n ON n.id = m.tenant_id
)
SELECT EXISTS (SELECT FROM moved), next.* FROM (SELECT) one LEFT JOIN next ON true
"""  # noqa: S608 - built from constants


def succeed(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, result: str) -> bool:
    """Store a result (JSON text) and end the task; False where the epoch is not current."""
    cursor.execute(_SUCCEED, {"id": task_id, "epoch": epoch, "result": result})
    return cursor.fetchone() is not None


def succeed_and_claim(
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, result: str, following: HintClaim
) -> tuple[bool, Claim | None]:
    """Do `succeed` and `claim` in one statement: half the commits where tasks travel together.

    Args:
        following: of another task.

    Returns:
        What each of the two gives; neither depends on the other.
    """
    values = {"id": task_id, "epoch": epoch, "result": result} | following.values()
    cursor.execute(_SUCCEED_AND_CLAIM, values)
    is_taken, *row = cursor.fetchone()
    return is_taken, None if row[0] is None else Claim(*row)


_FAIL = f"""
WITH moved AS (
    UPDATE taskmill_task t SET state = %(state)s, error = %(error)s::jsonb, frame = %(frame)s,
        finished_at = greatest(t.updated_at, taskmill_now()), {NO_LEASE}, {TOUCH}
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
SELECT 1 FROM moved
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
) -> bool:
    """End the task as `failed`, `error` or `timeout`; False where the epoch is not current.

    Args:
        error: the JSON text of `{code, type, message, retryable, attempt}`.
        frame: where the handler's own code raised, at most 200 characters; part of the cause that
            dead letters are grouped by.
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
    }
    cursor.execute(_FAIL, values)
    return cursor.fetchone() is not None


_RETRY = f"""
WITH moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN t.state = 'running' THEN 'retrying' ELSE 'cancelled' END, error =
            %(error)s::jsonb,
        run_at = taskmill_now() + make_interval(secs => %(delay)s::float8),
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
SELECT state FROM moved
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
) -> str | None:
    """End the attempt and plan the next one; a task asked to stop ends as cancelled instead.

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
    }
    cursor.execute(_RETRY, values | {"outcome": outcome})
    row = cursor.fetchone()
    return None if row is None else str(row[0])


_INTERRUPT = f"""
WITH old AS MATERIALIZED (
    SELECT id, queued_at FROM taskmill_task t {_GUARD} FOR UPDATE
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
        data=reason("worker_shutdown"),
    )
},
{attempt(outcome="'interrupted'", number="m.attempt + (m.state = 'queued')::int")}
SELECT m.state, pg_notify('taskmill_dispatch', m.queue) FROM moved m
"""  # noqa: S608 - built from constants


def interrupt(cursor: Cursor, task_id: uuid.UUID, *, epoch: int) -> str | None:
    """Hand a task back from a stopping worker: the attempt is refunded, the epoch is not.

    Returns:
        The new state, or None where the epoch is not current.
    """
    cursor.execute(_INTERRUPT, {"id": task_id, "epoch": epoch})
    row = cursor.fetchone()
    return None if row is None else str(row[0])


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
SELECT 1 FROM moved
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
