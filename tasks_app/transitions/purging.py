"""Dead letters leave for good, with everything that hangs on them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from tasks_app.db import Cursor

_PURGE: Final = """
WITH gone AS (
    DELETE FROM taskmill_task
    WHERE id = ANY(%(ids)s::uuid[]) AND tenant_id = %(tenant)s AND finished_at IS NOT NULL
      AND state IN ('failed', 'error', 'timeout')
    RETURNING id
), events AS (DELETE FROM taskmill_event WHERE task_id IN (SELECT id FROM gone)
), attempts AS (DELETE FROM taskmill_attempt WHERE task_id IN (SELECT id FROM gone)
), logs AS (DELETE FROM taskmill_log WHERE task_id IN (SELECT id FROM gone)
), stored AS (DELETE FROM taskmill_once WHERE task_id IN (SELECT id FROM gone)
)
SELECT count(*) FROM gone
"""


def purge(cursor: Cursor, *, tenant_id: int, task_ids: Sequence[uuid.UUID]) -> int:
    """Delete dead letters of a tenant with their events, attempts, logs and stored values.

    Returns:
        How many there were; tasks redriven meanwhile stay.
    """
    cursor.execute(_PURGE, {"ids": list(task_ids), "tenant": tenant_id})
    return int(cursor.fetchone()[0])
