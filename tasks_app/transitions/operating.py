"""Verbs request_cancel, redrive and revise: what clients and operators do, within one tenant."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tasks_app.db import Cursor
from tasks_app.transitions.sql import MOVED, RING_WHERE_FREED, RULED, TOUCH, event

_CANCEL_DATA = """jsonb_build_object('by', %(actor)s::text, 'reason', %(reason)s::text,
    'grace_seconds', %(grace)s::float8, 'how', CASE m.state WHEN 'cancelled' THEN 'before_start'
        END)"""


def cancel_where(guard: str) -> str:
    """Give the statement that cancels pending tasks and asks running ones to stop (and rings for
    their workers' lease keepers at commit).

    Args:
        guard: SQL that chooses the rows and locks them. Parameters are actor, reason and grace,
            and those of the guard.
    """
    return f"""
WITH old AS MATERIALIZED (
    SELECT id, state FROM taskmill_task WHERE {guard}
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN t.state IN ('running', 'cancelling') THEN 'cancelling'
            ELSE 'cancelled' END,
        cancel_requested_at = coalesce(t.cancel_requested_at, taskmill_now()),
        cancel_requested_by = %(actor)s, cancel_reason = %(reason)s,
        cancel_grace_seconds = %(grace)s::float8,
        finished_at = CASE WHEN t.state NOT IN ('running', 'cancelling')
            THEN greatest(t.updated_at, taskmill_now()) END, {TOUCH}
    FROM old WHERE t.id = old.id
    RETURNING {MOVED}, {RULED}, t.lease_owner, old.state AS old_state
), {
        event(
            kind="CASE m.state WHEN 'cancelled' THEN 'task.cancelled'"
            " ELSE 'task.cancel_requested' END",
            from_state="m.old_state",
            actor="%(actor)s::text",
            data=_CANCEL_DATA,
        )
    }
SELECT state, CASE WHEN state = 'cancelling' THEN pg_notify('taskmill_cancel', lease_owner) END,
    {RING_WHERE_FREED}
FROM moved
"""  # noqa: S608 - guards are constants of this package


_REQUEST_CANCEL = cancel_where("""id = %(id)s::uuid AND tenant_id = %(tenant)s
      AND finished_at IS NULL
      AND (state <> 'cancelling' OR %(grace)s::float8 < coalesce(cancel_grace_seconds, 'infinity'))
    FOR UPDATE""")


def request_cancel(
    cursor: Cursor,
    *,
    tenant_id: int,
    task_id: uuid.UUID,
    actor: str,
    reason: str,
    grace_seconds: float | None,
) -> str | None:
    """Cancel a pending task, or ask a running one to stop (and ring for its worker's lease keeper
    at commit).

    Args:
        grace_seconds: between the polite stop and the kill; None for the default. A second request
            with a smaller one (0 to force) shortens the wait.

    Returns:
        The new state (`cancelled` or `cancelling`), or None: finished, already asked, or not this
            tenant's; read the row.
    """
    values = {
        "id": task_id,
        "tenant": tenant_id,
        "actor": actor,
        "reason": reason,
        "grace": grace_seconds,
    }
    cursor.execute(_REQUEST_CANCEL, values)
    row = cursor.fetchone()
    return None if row is None else str(row[0])


_CANCEL_DELIVERED = f"""
WITH moved AS (
    UPDATE taskmill_task t SET {TOUCH}
    WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND t.state = 'cancelling' RETURNING {MOVED}
), {
    event(
        kind="'task.cancel_delivered'",
        from_state="'cancelling'",
        actor="%(worker)s::text",
        data="jsonb_build_object('signal', %(signal)s::text)",
    )
}
SELECT 1 FROM moved
"""  # noqa: S608 - built from constants


def cancel_delivered(
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, worker: str, signal: str
) -> bool:
    """Note in the history that the worker passed the request on; `signal` is its name."""
    cursor.execute(
        _CANCEL_DELIVERED, {"id": task_id, "epoch": epoch, "worker": worker, "signal": signal}
    )
    return cursor.fetchone() is not None


_REDRIVE = f"""
WITH old AS MATERIALIZED (
    SELECT id, state FROM taskmill_task
    WHERE id = ANY(%(ids)s::uuid[]) AND tenant_id = %(tenant)s AND state IN ('failed', 'error',
        'timeout', 'cancelled')
    ORDER BY id FOR UPDATE
), moved AS (
    UPDATE taskmill_task t SET
        state = 'queued', attempt_base = t.attempt, rescues = 0, sweeps = 0, hand_backs = 0,
        payload = coalesce(%(payload)s::jsonb, t.payload), frame = NULL,
        payload_bytes = coalesce(octet_length(%(payload)s::jsonb::text), t.payload_bytes),
        result = NULL, error = NULL, progress = 0, progress_message = '', progress_detail = NULL,
        run_at = taskmill_now(), queued_at = taskmill_now(),
        queue_deadline = taskmill_now() + make_interval(secs => t.queue_timeout),
        debounce_key = NULL, debounce_until = NULL,
        started_at = NULL, finished_at = NULL, cancel_requested_at = NULL,
        cancel_requested_by = '', cancel_reason = '', cancel_grace_seconds = NULL, {TOUCH}
    FROM old WHERE t.id = old.id
    RETURNING {MOVED}, t.queue, old.state AS old_state
), {
    event(
        kind="'task.redriven'",
        from_state="m.old_state",
        actor="%(actor)s::text",
        data="CASE WHEN %(payload)s::jsonb IS NOT NULL THEN "
        "jsonb_build_object('is_payload_changed', true) END",
    )
}
SELECT m.id, (SELECT count(pg_notify('taskmill_dispatch', q.queue)) FROM (SELECT DISTINCT queue FROM
    moved) q) FROM moved m
"""  # noqa: S608 - built from constants


def redrive(
    cursor: Cursor,
    *,
    tenant_id: int,
    task_ids: Sequence[uuid.UUID],
    actor: str,
    payload: str | None = None,
) -> list[uuid.UUID]:
    """Queue finished tasks that did not succeed once more, with all attempts granted anew; gives
    those it took.

    Args:
        payload: JSON text of another payload for them, or None for the same.

    Raises:
        IntegrityError: a live task holds the unique key of one of them
            (`task_unique_while_active`); none was taken.
    """
    values: dict[str, Any] = {"ids": list(task_ids), "tenant": tenant_id, "actor": actor}
    cursor.execute(_REDRIVE, values | {"payload": payload})
    return [row[0] for row in cursor.fetchall()]


_REVISE = f"""
WITH old AS MATERIALIZED (
    SELECT id, state FROM taskmill_task
    WHERE id = %(id)s::uuid AND tenant_id = %(tenant)s AND (%(version)s::int IS NULL OR version =
        %(version)s::int)
      AND state IN ('scheduled', 'queued', 'blocked', 'dispatched', 'retrying')
    FOR UPDATE
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN old.state = 'retrying' THEN 'retrying'
                     WHEN coalesce((c.v ->> 'run_at')::timestamptz, t.run_at) > taskmill_now() THEN
                         'scheduled'
                     ELSE 'queued' END,
        priority = coalesce((c.v ->> 'priority')::smallint, t.priority), queue = coalesce(c.v ->>
            'queue', t.queue),
        run_at = coalesce((c.v ->> 'run_at')::timestamptz, t.run_at),
        queued_at = CASE WHEN old.state = 'scheduled'
            AND coalesce((c.v ->> 'run_at')::timestamptz, t.run_at) <= taskmill_now()
            THEN taskmill_now() ELSE t.queued_at END,
        queue_deadline = CASE WHEN c.v ? 'run_at' AND t.queue_deadline IS NOT NULL
            THEN greatest((c.v ->> 'run_at')::timestamptz, taskmill_now()) + make_interval(secs =>
                t.queue_timeout)
            ELSE t.queue_deadline END,
        tags = CASE WHEN c.v ? 'tags' THEN ARRAY(SELECT jsonb_array_elements_text(c.v -> 'tags'))
            ELSE t.tags END,
        metadata = coalesce(c.v -> 'metadata', t.metadata), {TOUCH}
    FROM old, (SELECT %(changes)s::jsonb AS v) c WHERE t.id = old.id
    RETURNING {MOVED}, t.queue, old.state AS old_state
), {
    event(
        kind="'task.updated'",
        from_state="m.old_state",
        actor="%(actor)s::text",
        data="%(changes)s::jsonb",
    )
}
SELECT m.state, pg_notify('taskmill_dispatch', m.queue) FROM moved m
"""  # noqa: S608 - built from constants


def revise(
    cursor: Cursor,
    *,
    tenant_id: int,
    task_id: uuid.UUID,
    version: int | None,
    changes: Mapping[str, Any],
    actor: str,
) -> str | None:
    """Change priority, queue, run_at, tags or metadata (whole values) of a pending task; a hint
    already out becomes stale.

    Args:
        version: only if the task still has this version; None for any.

    Returns:
        The new state, or None: not pending, another version, or not this tenant's; read the row.
    """
    values = {"id": task_id, "tenant": tenant_id, "version": version, "actor": actor}
    cursor.execute(_REVISE, values | {"changes": orjson.dumps(dict(changes)).decode()})
    row = cursor.fetchone()
    return None if row is None else str(row[0])
