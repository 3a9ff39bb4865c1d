"""Verbs claim, succeed, fail, retry, interrupt and confirm_cancel: what a worker does to its task.

Every write after the claim carries the claim's epoch and touches no row without it. A refused write
means that the attempt
was rescued, expired or finished by somebody else: the caller records it with `record_stale` and
stays silent.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks_app.db import Cursor
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


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed attempt with all that running it needs."""

    id: uuid.UUID
    epoch: int
    attempt: int
    attempt_base: int
    max_retry: int
    type: str
    queue: str
    priority: int
    payload: Any
    metadata: dict[str, Any]
    tags: list[str]
    retry_policy: dict[str, Any] | None
    run_deadline: datetime
    process_timeout: int
    traceparent: str
    tenant_id: int
    tenant: str

    @property
    def attempts_made(self) -> int:
        """Attempts since submission or redrive, this one included."""
        return self.attempt - self.attempt_base

    @property
    def attempts_left(self) -> int:
        """Attempts that may still follow this one."""
        return self.max_retry + 1 - self.attempts_made


_CLAIM = f"""
WITH moved AS (
    UPDATE taskmill_task t SET
        state = 'running', epoch = t.epoch + 1, attempt = t.attempt + 1,
        lease_owner = %(owner)s, worker = %(worker)s,
        lease_expires_at = taskmill_now() + make_interval(secs => %(lease)s::float8),
        run_deadline = taskmill_now() + make_interval(secs => t.process_timeout),
        queue_deadline = NULL, started_at = taskmill_now(), sweeps = 0, hand_backs = 0,
        progress = 0, progress_message = '', progress_detail = NULL, {TOUCH}
    WHERE t.id = %(id)s::uuid AND {STATE} = 'dispatched' AND t.dispatch_seq = %(seq)s
      AND (t.queue_deadline IS NULL OR t.queue_deadline > taskmill_now())
    RETURNING {MOVED}, t.attempt_base, t.max_retry, t.type, t.queue, t.priority, t.payload,
        t.metadata, t.tags,
        t.retry_policy, t.run_deadline, t.process_timeout, t.traceparent, t.worker
), {event(kind="'task.started'", from_state="'dispatched'", actor="m.worker")}
SELECT m.id, m.epoch, m.attempt, m.attempt_base, m.max_retry, m.type, m.queue, m.priority,
    m.payload, m.metadata, m.tags,
    m.retry_policy, m.run_deadline, m.process_timeout, m.traceparent, m.tenant_id, n.slug
FROM moved m JOIN taskmill_tenant n ON n.id = m.tenant_id
"""  # noqa: S608 - built from constants


def claim(
    cursor: Cursor,
    task_id: uuid.UUID,
    *,
    dispatch_seq: int,
    owner: str,
    worker: str,
    lease_seconds: float,
) -> Claim | None:
    """Take the attempt that a hint names.

    Args:
        dispatch_seq: from the hint; an older hint claims nothing.
        owner: the worker process's id, which its lease keeper renews by.
        worker: `host:pid` for people.

    Returns:
        The claim, or None: drop the hint (it is a duplicate, stale, cancelled or expired one).
    """
    values = {
        "id": task_id,
        "seq": dispatch_seq,
        "owner": owner,
        "worker": worker,
        "lease": lease_seconds,
    }
    cursor.execute(_CLAIM, values)
    row = cursor.fetchone()
    return None if row is None else Claim(*row)


_GUARD = (
    f"WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND {STATE} IN ('running', 'cancelling')"
)

_SUCCEED = f"""
WITH moved AS (
    UPDATE taskmill_task t SET state = 'success', result = %(result)s::jsonb, error = NULL, progress
        = 100,
        finished_at = greatest(t.updated_at, taskmill_now()), {NO_LEASE}, {TOUCH}
    {_GUARD} RETURNING {ENDED}
), {event(kind="'task.succeeded'", from_state=PROCESSING_FROM, actor="m.worker")},
{attempt(outcome="'success'")}
SELECT 1 FROM moved
"""  # noqa: S608 - built from constants


def succeed(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, result: str) -> bool:
    """Store a result (JSON text) and end the task; False where the epoch is not current."""
    cursor.execute(_SUCCEED, {"id": task_id, "epoch": epoch, "result": result})
    return cursor.fetchone() is not None


_FAIL = f"""
WITH moved AS (
    UPDATE taskmill_task t SET state = %(state)s, error = %(error)s::jsonb,
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
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, state: str, error: str, traceback: str = ""
) -> bool:
    """End the task as `failed`, `error` or `timeout`; False where the epoch is not current.

    Args:
        error: the JSON text of `{code, type, message, retryable, attempt}`.
    """
    outcome = "timeout" if state == "timeout" else "failed"
    values = {
        "id": task_id,
        "epoch": epoch,
        "state": state,
        "error": error,
        "traceback": traceback,
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
