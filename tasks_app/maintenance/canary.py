"""Canaries: a tiny task through each served queue now and then, one at a time, and away again.

A unique key per queue lets no second one wait beside the first, however long a queue stalls; a
paused queue is sent none.
"""

from __future__ import annotations

from typing import Final

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn
from tasks_app.selectors.canaries import CANARY_TENANT, CANARY_TYPE
from tasks_app.transitions import NewTask

KEEP_SECONDS: Final = 600.0
WAIT_SECONDS: Final = 300
"""A canary that waits so long ends, and the next is sent; the silence is counted on."""

RUN_SECONDS: Final = 30
QUEUES_CAP: Final = 1_000
LIMIT: Final = 500

_TENANT: Final = """
INSERT INTO taskmill_tenant (slug, name, is_active, created_at)
VALUES (%(slug)s, 'Canaries of the platform', false, taskmill_now()) ON CONFLICT (slug) DO NOTHING
"""
_TENANT_ID: Final = "SELECT id FROM taskmill_tenant WHERE slug = %(slug)s"
_QUEUES: Final = """
SELECT DISTINCT n.queue FROM taskmill_worker w CROSS JOIN LATERAL unnest(w.queues) AS n(queue)
WHERE NOT w.is_stopping
  AND NOT EXISTS (SELECT 1 FROM taskmill_queue q WHERE q.name = n.queue AND q.is_paused)
ORDER BY n.queue LIMIT %(most)s
"""
"""Workers that died count while their row is kept: a queue that lost its only one falls silent. One
that was stopped in order leaves none."""

_OLD: Final = """
SELECT queue, state, array_agg(id) FROM (
    SELECT id, queue, state FROM taskmill_task
    WHERE tenant_id = %(tenant)s AND finished_at IS NOT NULL
      AND finished_at <= taskmill_now() - make_interval(secs => %(keep)s::float8)
    ORDER BY finished_at LIMIT %(limit)s) old
GROUP BY queue, state
"""


class SendCanaries:
    """Sends one canary through each served queue that has none under way, and removes old ones.

    Args:
        interval_seconds: between two of a queue.
    """

    name = "canaries"

    def __init__(self, *, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Send what is due."""
        tenant_id = _tenant_id(cursor)
        cursor.execute(_QUEUES, {"most": QUEUES_CAP})
        wanted = [_canary(tenant_id, row[0]) for row in cursor.fetchall()]
        sent = transitions.insert_tasks(cursor, wanted) if wanted else []
        cursor.execute(_OLD, {"tenant": tenant_id, "keep": KEEP_SECONDS, "limit": LIMIT})
        for queue, state, ids in cursor.fetchall():
            transitions.clean(
                cursor,
                tenant_id=tenant_id,
                task_ids=ids,
                queue=queue,
                state=state,
                grace_seconds=KEEP_SECONDS,
            )
        return StepResult(count=len(sent))


def _canary(tenant_id: int, queue: str) -> NewTask:
    return NewTask(
        tenant_id=tenant_id,
        type=CANARY_TYPE,
        queue=queue,
        payload={},
        max_retry=0,
        process_timeout=RUN_SECONDS,
        queue_timeout=WAIT_SECONDS,
        unique_key=f"canary:{queue}",
        submitted_by="engine",
    )


def _tenant_id(cursor: Cursor) -> int:
    cursor.execute(_TENANT, {"slug": CANARY_TENANT})
    cursor.execute(_TENANT_ID, {"slug": CANARY_TENANT})
    return int(cursor.fetchone()[0])
