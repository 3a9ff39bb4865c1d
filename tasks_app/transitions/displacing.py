"""A submission instead of a task that waits: it is put off with other contents, or ended.

Verbs revise (debounce) and request_cancel (displace), guarded so that a task that runs is never
touched.
"""

from __future__ import annotations

import uuid
from typing import Any

import orjson

from tasks_app.db import Cursor
from tasks_app.transitions.sql import MOVED, TOUCH, event
from tasks_app.transitions.submitting import NewTask

_UNTIL = """least(t.debounce_until, t.created_at + make_interval(secs => %(most)s::float8))"""
_START = f"least(taskmill_now() + make_interval(secs => %(wait)s::float8), {_UNTIL})"

_DEBOUNCE = f"""
WITH old AS MATERIALIZED (
    SELECT id, state FROM taskmill_task
    WHERE tenant_id = %(tenant)s AND type = %(type)s AND debounce_key = %(key)s
      AND epoch = 0 AND finished_at IS NULL
      AND state IN ('scheduled', 'queued', 'blocked', 'dispatched')
    FOR UPDATE
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN {_START} > taskmill_now() THEN 'scheduled' ELSE 'queued' END,
        run_at = CASE WHEN {_START} > taskmill_now() THEN {_START}
            ELSE least(t.run_at, taskmill_now()) END,
        queued_at = CASE WHEN {_START} <= taskmill_now()
            THEN coalesce(t.queued_at, taskmill_now()) END,
        queue_deadline = greatest({_START}, taskmill_now())
            + make_interval(secs => t.queue_timeout),
        debounce_until = {_UNTIL},
        payload = %(payload)s::jsonb, payload_bytes = %(bytes)s, metadata = %(metadata)s::jsonb,
        tags = %(tags)s::varchar[], priority = %(priority)s, {TOUCH}
    FROM old WHERE t.id = old.id
    RETURNING {MOVED}, t.queue, t.run_at, old.state AS old_state
), {
    event(
        kind="'task.updated'",
        from_state="m.old_state",
        actor="%(actor)s::text",
        data="jsonb_build_object('reason', 'debounced', 'run_at', m.run_at)",
    )
}
SELECT m.id, pg_notify('taskmill_dispatch', m.queue) FROM moved m
"""  # noqa: S608 - built from constants


def debounce(cursor: Cursor, task: NewTask) -> uuid.UUID | None:
    """Give the task that waits under a debounce key the contents of a newer submission, and put it
    off by the newer's delay, at most to its maximum.

    Payload, metadata, tags and priority become the newer's; the rest stays the first's. A hint
    that is out becomes stale.

    Args:
        task: the newer submission; `delay_seconds` and `debounce_seconds` are its wait and its
            maximum, which counts from the first.

    Returns:
        The id of the task that waits, or None: none does, insert.
    """
    cursor.execute(_DEBOUNCE, values_of(task))
    row = cursor.fetchone()
    return None if row is None else row[0]


def values_of(task: NewTask) -> dict[str, Any]:
    """Give the parameters of a debounce."""
    return {
        "tenant": task.tenant_id,
        "type": task.type,
        "key": task.debounce_key,
        "wait": task.delay_seconds,
        "most": task.debounce_seconds,
        "payload": orjson.dumps(task.payload).decode(),
        "bytes": task.payload_bytes,
        "metadata": orjson.dumps(task.metadata).decode(),
        "tags": list(task.tags),
        "priority": task.priority,
        "actor": task.submitted_by,
    }


_DISPLACE = f"""
WITH old AS MATERIALIZED (
    SELECT id, state FROM taskmill_task
    WHERE id = %(id)s::uuid AND tenant_id = %(tenant)s
      AND state IN ('scheduled', 'queued', 'blocked', 'dispatched', 'retrying')
    FOR UPDATE
), moved AS (
    UPDATE taskmill_task t SET
        state = 'cancelled', cancel_requested_at = taskmill_now(),
        cancel_requested_by = %(actor)s, cancel_reason = %(reason)s, cancel_grace_seconds = NULL,
        finished_at = greatest(t.updated_at, taskmill_now()), {TOUCH}
    FROM old WHERE t.id = old.id
    RETURNING {MOVED}, old.state AS old_state
), {
    event(
        kind="'task.cancelled'",
        from_state="m.old_state",
        actor="%(actor)s::text",
        data="jsonb_build_object('by', %(actor)s::text, 'reason', %(reason)s::text, 'how',"
        " 'before_start', 'replaced_by', %(newer)s::text)",
    )
}
SELECT 1 FROM moved
"""  # noqa: S608 - built from constants


def displace(cursor: Cursor, task_id: uuid.UUID, *, newer: NewTask) -> bool:
    """Cancel a task that waits in favour of a newer one of its key; its history names that.

    Returns:
        False: it runs or is finished, or is not of the newer's tenant; it was not touched.
    """
    reason = f"replaced by {newer.id}"
    values = {"id": task_id, "tenant": newer.tenant_id, "newer": str(newer.id)}
    cursor.execute(_DISPLACE, values | {"actor": newer.submitted_by, "reason": reason})
    return cursor.fetchone() is not None
