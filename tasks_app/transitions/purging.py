"""Finished tasks leave for good, with everything that hangs on them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from tasks_app.db import Cursor

REMEMBERED: Final = """remembered AS (
    INSERT INTO taskmill_purged_task (task_id, tenant_id, purged_at)
    SELECT id, tenant_id, taskmill_now() FROM gone ON CONFLICT DO NOTHING
)"""
"""Of a statement whose part `gone` deletes tasks."""


def _delete(guard: str) -> str:
    return f"""
WITH gone AS (
    DELETE FROM taskmill_task
    WHERE id = ANY(%(ids)s::uuid[]) AND tenant_id = %(tenant)s AND finished_at IS NOT NULL
      AND {guard}
    RETURNING id, tenant_id
), {REMEMBERED}, events AS (DELETE FROM taskmill_event WHERE task_id IN (SELECT id FROM gone)
), attempts AS (DELETE FROM taskmill_attempt WHERE task_id IN (SELECT id FROM gone)
), logs AS (DELETE FROM taskmill_log WHERE task_id IN (SELECT id FROM gone)
), stored AS (DELETE FROM taskmill_once WHERE task_id IN (SELECT id FROM gone)
)
SELECT count(*) FROM gone
"""  # noqa: S608 - built from constants


_PURGE: Final = _delete("state IN ('failed', 'error', 'timeout')")
_CLEAN: Final = _delete(
    """queue = %(queue)s AND state = %(state)s
      AND finished_at <= taskmill_now() - make_interval(secs => %(grace)s::float8)"""
)


def purge(cursor: Cursor, *, tenant_id: int, task_ids: Sequence[uuid.UUID]) -> int:
    """Delete dead letters of a tenant with their events, attempts, logs and stored values.

    Returns:
        How many there were; tasks redriven meanwhile stay.
    """
    cursor.execute(_PURGE, {"ids": list(task_ids), "tenant": tenant_id})
    return int(cursor.fetchone()[0])


def clean(
    cursor: Cursor,
    *,
    tenant_id: int,
    task_ids: Sequence[uuid.UUID],
    queue: str,
    state: str,
    grace_seconds: float,
) -> int:
    """Delete those of the tasks that finished in this state at least so long ago, with their
    events, attempts, logs and stored values.

    Returns:
        How many there were; tasks redriven meanwhile stay.
    """
    values = {
        "ids": list(task_ids),
        "tenant": tenant_id,
        "queue": queue,
        "state": state,
        "grace": grace_seconds,
    }
    cursor.execute(_CLEAN, values)
    return int(cursor.fetchone()[0])
