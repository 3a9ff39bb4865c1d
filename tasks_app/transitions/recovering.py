"""Verbs expire and rescue: what is done about tasks that nobody finishes, one statement each."""

from __future__ import annotations

import uuid

from tasks_app.db import Cursor
from tasks_app.transitions.sql import (
    ATTEMPTS_LEFT,
    ENDED,
    MOVED,
    NO_LEASE,
    RING_WHERE_FREED,
    RULED,
    TOUCH,
    attempt,
    event,
    reason,
)


def _error(code: str, message: str, *, retryable: str = "true") -> str:
    return (
        f"jsonb_build_object('code', '{code}', 'type', 'taskmill', 'message', '{message}', "
        f"'retryable', {retryable}, 'attempt', t.attempt)"
    )


_QUEUE_ERROR = _error("QUEUE_TIMEOUT", "waited longer than its queue_timeout", retryable="false")
_EXPIRE_PENDING = f"""
WITH due AS MATERIALIZED (
    SELECT id, state FROM taskmill_task
    WHERE state IN ('scheduled', 'queued', 'blocked', 'dispatched', 'retrying')
      AND queue_deadline <= taskmill_now()
    ORDER BY queue_deadline LIMIT 1000 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE taskmill_task t SET state = 'timeout', finished_at = greatest(t.updated_at,
        taskmill_now()),
        error = {_QUEUE_ERROR}, {TOUCH}
    FROM due WHERE t.id = due.id RETURNING {MOVED}, {RULED}, t.error, due.state AS old_state
), {event(kind="'task.timeout'", from_state="m.old_state", data="m.error")}
SELECT count(*), {RING_WHERE_FREED} FROM moved
"""  # noqa: S608 - built from constants


def expire_pending(cursor: Cursor) -> int:
    """End tasks that waited past their queue timeout, whatever workers do; gives how many."""
    cursor.execute(_EXPIRE_PENDING)
    return int(cursor.fetchone()[0])


_RUN_ERROR = _error("TIMEOUT", "ran longer than its process_timeout and its worker did not stop it")
_EXPIRE_RUNNING = f"""
WITH due AS MATERIALIZED (
    SELECT id, epoch, state FROM taskmill_task
    WHERE state IN ('running', 'cancelling')
      AND run_deadline < taskmill_now() - make_interval(secs => %(grace)s::float8)
    ORDER BY run_deadline LIMIT 500 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN due.state = 'running' AND {ATTEMPTS_LEFT} THEN 'retrying' ELSE 'timeout'
            END,
        run_at = taskmill_now() + make_interval(secs => least(60, power(2, least(t.attempt -
            t.attempt_base - 1, 6)))),
        finished_at = CASE WHEN due.state = 'cancelling' OR NOT ({ATTEMPTS_LEFT})
            THEN greatest(t.updated_at, taskmill_now()) END,
        error = {_RUN_ERROR}, {NO_LEASE}, {TOUCH}
    FROM due WHERE t.id = due.id AND t.epoch = due.epoch
    RETURNING {ENDED}, t.error, due.state AS old_state
), {event(kind="'task.' || m.state", from_state="m.old_state", data="m.error")},
{attempt(outcome="'timeout'", error="m.error")}
SELECT count(*), {RING_WHERE_FREED} FROM moved
"""  # noqa: S608 - built from constants


def expire_running(cursor: Cursor, *, grace_seconds: float) -> int:
    """Take attempts away that run past their deadline and grace, even where the worker keeps
    renewing; gives how many.

    Like every process timeout it is temporary: retried while attempts remain, then `timeout`.
    """
    cursor.execute(_EXPIRE_RUNNING, {"grace": grace_seconds})
    return int(cursor.fetchone()[0])


_LOST_ERROR = _error("WORKER_LOST", "the worker that ran it was lost")


_LOST_DATA = f"m.error || {reason('worker_lost')}"


def _rescue(guard: str, lock: str) -> str:
    over = f"t.rescues >= %(max_rescues)s OR NOT ({ATTEMPTS_LEFT})"
    return f"""
    WITH dead AS MATERIALIZED (
        SELECT id, epoch, state FROM taskmill_task
        WHERE state IN ('running', 'cancelling') AND {guard} {lock}
    ), moved AS (
        UPDATE taskmill_task t SET
            state = CASE WHEN dead.state = 'cancelling' THEN 'cancelled' WHEN {over} THEN 'error'
                ELSE 'retrying' END,
            rescues = t.rescues + 1, error = {_LOST_ERROR},
            run_at = taskmill_now() + make_interval(secs => least(60, power(2, least(t.rescues,
                6)))),
            finished_at = CASE WHEN dead.state = 'cancelling' OR {over} THEN greatest(t.updated_at,
                taskmill_now()) END,
            {NO_LEASE}, {TOUCH}
        FROM dead WHERE t.id = dead.id AND t.epoch = dead.epoch
        RETURNING {ENDED}, t.error, dead.state AS old_state
    ), {event(kind="'task.' || m.state", from_state="m.old_state", data=_LOST_DATA)},
    {attempt(outcome="'lost'", error="m.error")}
    SELECT count(*), {RING_WHERE_FREED} FROM moved
    """  # noqa: S608 - built from constants


_RESCUE = _rescue(
    """lease_expires_at < taskmill_now() - make_interval(secs => %(grace)s::float8)
        ORDER BY lease_expires_at LIMIT 500""",
    "FOR UPDATE SKIP LOCKED",
)
_LOSE = _rescue("id = %(id)s::uuid AND epoch = %(epoch)s", "FOR UPDATE")


def rescue(cursor: Cursor, *, grace_seconds: float, max_rescues: int) -> int:
    """Take attempts away from workers whose lease is over by `grace_seconds`; gives how many.

    They are retried, at most `max_rescues` times and while attempts remain, then end as `error`;
    cancelled ones as cancelled.
    """
    cursor.execute(_RESCUE, {"grace": grace_seconds, "max_rescues": max_rescues})
    return int(cursor.fetchone()[0])


def lose(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, max_rescues: int) -> bool:
    """Report that the child with this attempt died; the same outcomes as `rescue`, at once."""
    cursor.execute(_LOSE, {"id": task_id, "epoch": epoch, "max_rescues": max_rescues})
    return int(cursor.fetchone()[0]) == 1
