"""What a running attempt leaves behind before it ends: progress, log lines, the values of
`ctx.once` and `ctx.checkpoint`, a later deadline.

Fenced by the epoch like every write of a worker, but no state changes here. Called by the worker's
sink only. The state in a guard is an expression for the reason given at `transitions.sql.STATE`.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from tasks_app.db import Cursor
from tasks_app.events import EventType

_PROGRESS = f"""
WITH moved AS (
    UPDATE taskmill_task t SET progress = %(percent)s, progress_message = %(message)s,
        progress_detail = %(detail)s::jsonb,
        version = t.version + 1, event_seq = t.event_seq + 1, updated_at = greatest(t.updated_at,
            taskmill_now())
    WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND t.state || '' IN ('running', 'cancelling')
    RETURNING t.id, t.tenant_id, t.event_seq, t.state, t.epoch, t.attempt, t.updated_at, t.worker,
        t.cancel_requested_at,
        t.progress, t.progress_message, t.progress_detail
), event AS (
    INSERT INTO taskmill_event (task_id, tenant_id, seq, type, from_state, state, epoch, attempt,
        at, actor, data)
    SELECT m.id, m.tenant_id, m.event_seq, '{EventType.PROGRESS}', m.state, m.state, m.epoch,
        m.attempt, m.updated_at, m.worker,
        jsonb_build_object('progress', m.progress, 'message', m.progress_message, 'detail',
            m.progress_detail)
    FROM moved m
)
SELECT m.cancel_requested_at IS NOT NULL FROM moved m
"""  # noqa: S608 - built from constants


def save_progress(
    cursor: Cursor,
    task_id: uuid.UUID,
    *,
    epoch: int,
    percent: float,
    message: str,
    detail: str | None,
) -> bool | None:
    """Write the newest progress with its event.

    Args:
        percent: 0 to 100.
        detail: JSON text or None.

    Returns:
        Whether the task is asked to stop, or None where the epoch is not current.
    """
    values = {
        "id": task_id,
        "epoch": epoch,
        "percent": percent,
        "message": message,
        "detail": detail,
    }
    cursor.execute(_PROGRESS, values)
    row = cursor.fetchone()
    return None if row is None else bool(row[0])


_APPEND_LOG = """
INSERT INTO taskmill_log (task_id, tenant_id, epoch, number, size_bytes, lines)
SELECT t.id, t.tenant_id, %(epoch)s, %(number)s, %(size)s, %(lines)s::jsonb FROM taskmill_task t
WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s
ON CONFLICT (task_id, epoch, number) DO NOTHING
"""


def append_log(
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, number: int, size_bytes: int, lines: str
) -> None:
    """Add a chunk of log lines (JSON text of `[{at, level, message, fields}]`) to an attempt."""
    values = {"id": task_id, "epoch": epoch, "number": number, "size": size_bytes, "lines": lines}
    cursor.execute(_APPEND_LOG, values)


def drop_log_chunks(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, before_number: int) -> None:
    """Drop the oldest chunks of an attempt."""
    cursor.execute(
        """DELETE FROM taskmill_log
        WHERE task_id = %(id)s::uuid AND epoch = %(epoch)s AND number < %(before)s""",
        {"id": task_id, "epoch": epoch, "before": before_number},
    )


def find_once(cursor: Cursor, task_id: uuid.UUID, key: str) -> tuple[Any] | None:
    """Give `(value,)` stored under a key by any attempt, or None."""
    cursor.execute(
        "SELECT value FROM taskmill_once WHERE task_id = %(id)s::uuid AND key = %(key)s",
        {"id": task_id, "key": key},
    )
    row = cursor.fetchone()
    return None if row is None else (row[0],)


_STORE_ONCE = """
INSERT INTO taskmill_once (task_id, key, value, epoch, at)
SELECT t.id, %(key)s, %(value)s::jsonb, %(epoch)s, taskmill_now() FROM taskmill_task t
WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND t.state || '' IN ('running', 'cancelling')
    FOR UPDATE OF t
ON CONFLICT (task_id, key) DO NOTHING RETURNING 1
"""


def store_once(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, key: str, value: str) -> bool:
    """Store a value (JSON text) under a key; False: the epoch is not current, or the key taken."""
    cursor.execute(_STORE_ONCE, {"id": task_id, "epoch": epoch, "key": key, "value": value})
    return cursor.fetchone() is not None


_REPLACE_ONCE = _STORE_ONCE.replace(
    "DO NOTHING", "DO UPDATE SET value = excluded.value, epoch = excluded.epoch, at = excluded.at"
)


def replace_once(cursor: Cursor, task_id: uuid.UUID, *, epoch: int, key: str, value: str) -> bool:
    """Store a value (JSON text) in the place of the one before; False: the epoch is not current."""
    cursor.execute(_REPLACE_ONCE, {"id": task_id, "epoch": epoch, "key": key, "value": value})
    return cursor.fetchone() is not None


def hold_attempt(cursor: Cursor, task_id: uuid.UUID, *, epoch: int) -> bool:
    """Keep an attempt the task's until the transaction ends; False where it is not any more."""
    cursor.execute(
        """SELECT 1 FROM taskmill_task t WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s
        AND t.state || '' IN ('running', 'cancelling') FOR UPDATE OF t""",
        {"id": task_id, "epoch": epoch},
    )
    return cursor.fetchone() is not None


_EXTEND = """
UPDATE taskmill_task t SET run_deadline = greatest(t.run_deadline,
    taskmill_now() + make_interval(secs => %(seconds)s::float8))
WHERE t.id = %(id)s::uuid AND t.epoch = %(epoch)s AND t.state || '' IN ('running', 'cancelling')
RETURNING t.run_deadline
"""


def extend_deadline(
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, seconds: float
) -> datetime | None:
    """Move an attempt's deadline to at least so many seconds from now, never to an earlier one.

    Returns:
        The deadline, or None where the epoch is not current.
    """
    cursor.execute(_EXTEND, {"id": task_id, "epoch": epoch, "seconds": seconds})
    row = cursor.fetchone()
    return None if row is None else row[0]
