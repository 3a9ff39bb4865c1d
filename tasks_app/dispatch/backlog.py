"""What waits and who serves it: the dispatch loop's one look at the database per round.

The ready queues are found by jumping from one queue to the next in the index `task_ready`, so the
look costs as many index probes as there are queues, whatever the backlog.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks_app.db import Cursor


@dataclass(frozen=True, slots=True)
class ReadyQueue:
    """A queue with ready tasks and a live worker.

    Attributes:
        slots: tasks that its live workers run at a time, together.
        outstanding: hints sent and not yet claimed.
    """

    name: str
    slots: int
    outstanding: int


_READY = """
WITH RECURSIVE ready AS (
    (SELECT queue FROM taskmill_task WHERE state = 'queued' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT t.queue FROM taskmill_task t WHERE t.state = 'queued' AND t.queue > r.queue
            ORDER BY t.queue LIMIT 1)
    FROM ready r WHERE r.queue IS NOT NULL
), served AS (
    SELECT q.name, sum(w.slots)::int AS slots
    FROM taskmill_worker w CROSS JOIN LATERAL unnest(w.queues) AS q(name)
    WHERE NOT w.is_stopping
      AND w.last_seen_at > taskmill_now() - make_interval(secs => %(seen)s::float8)
    GROUP BY q.name
)
SELECT s.name, s.slots, (SELECT count(*) FROM taskmill_task d
                         WHERE d.state = 'dispatched' AND d.queue = s.name)
FROM ready r JOIN served s ON s.name = r.queue
"""


def find_ready_queues(cursor: Cursor, *, seen_seconds: float) -> list[ReadyQueue]:
    """Find the queues that have ready tasks and workers that take them.

    Args:
        seen_seconds: a worker not seen for so long counts as lost.
    """
    cursor.execute(_READY, {"seen": seen_seconds})
    return [ReadyQueue(*row) for row in cursor.fetchall()]


_ANY_BLOCKED = """
SELECT EXISTS (SELECT 1 FROM taskmill_task
               WHERE state = 'blocked' AND concurrency_key IS NOT NULL AND finished_at IS NULL)
"""


def is_any_blocked(cursor: Cursor) -> bool:
    """Say whether any task is parked for a slot."""
    cursor.execute(_ANY_BLOCKED)
    return bool(cursor.fetchone()[0])
