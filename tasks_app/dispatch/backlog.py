"""What waits and who serves it: the dispatch loop's one look at the database per round.

The ready queues are found by jumping from one queue to the next in the index `task_ready`, so the
look costs as many index probes as there are queues, whatever the backlog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks_app.db import Cursor
from tasks_app.models import QueueOrder


@dataclass(frozen=True, slots=True)
class ReadyQueue:
    """A queue with ready tasks and a live worker; or one that needs a row, or one that is paused
    while hints of it are out.

    Attributes:
        slots: tasks that its live workers run at a time, together; 0 without any.
        outstanding: hints sent and not yet claimed.
        is_known: whether it has a row.
        window_least: of its row, or None for the platform's.
        window_most: of its row, or None for the platform's.
        is_limited: whether it has a concurrency limit or a rate.
    """

    name: str
    slots: int
    outstanding: int
    is_known: bool = True
    is_paused: bool = False
    order: QueueOrder = QueueOrder.PRIORITY
    window_least: int | None = None
    window_most: int | None = None
    is_limited: bool = False


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
SELECT r.queue, coalesce(s.slots, 0), (SELECT count(*) FROM taskmill_task d
                                       WHERE d.state = 'dispatched' AND d.queue = r.queue),
    q.name IS NOT NULL, false, q."order", q.window_least, q.window_most,
    q.concurrency IS NOT NULL OR q.rate IS NOT NULL
FROM ready r LEFT JOIN served s ON s.name = r.queue LEFT JOIN taskmill_queue q ON q.name = r.queue
WHERE r.queue IS NOT NULL AND (s.name IS NOT NULL OR q.name IS NULL) AND q.is_paused IS NOT true
UNION ALL
SELECT q.name, 0, 1, true, true, q."order", NULL, NULL, false FROM taskmill_queue q
CROSS JOIN LATERAL (SELECT 1 FROM taskmill_task d
                    WHERE d.state = 'dispatched' AND d.queue = q.name LIMIT 1) AS hint
WHERE q.is_paused
"""


def find_ready_queues(cursor: Cursor, *, seen_seconds: float) -> list[ReadyQueue]:
    """Find the queues that have ready tasks and workers that take them, those that have no row
    yet, and those that are paused while hints of them are out.

    Args:
        seen_seconds: a worker not seen for so long counts as lost.
    """
    cursor.execute(_READY, {"seen": seen_seconds})
    return [_ready_queue(*row) for row in cursor.fetchall()]


def _ready_queue(name: str, slots: int, outstanding: int, *row: Any) -> ReadyQueue:
    is_known, is_paused, order, least, most, is_limited = row
    return ReadyQueue(
        name=name,
        slots=slots,
        outstanding=outstanding,
        is_known=is_known,
        is_paused=is_paused,
        order=QueueOrder(order or QueueOrder.PRIORITY),
        window_least=least,
        window_most=most,
        is_limited=is_limited,
    )


_KNOW = """
WITH new AS (
    INSERT INTO taskmill_queue (name, description, "order", is_paused, paused_by, pause_reason)
    SELECT n, '', 'priority', false, '', '' FROM unnest(%(names)s::text[]) AS n ORDER BY n
    ON CONFLICT (name) DO NOTHING RETURNING name
)
SELECT pg_notify('taskmill_queues', name) FROM new
"""


def know_queues(cursor: Cursor, names: Sequence[str]) -> None:
    """Make the rows of queues used for the first time, and ring for the workers of all queues."""
    cursor.execute(_KNOW, {"names": list(names)})


_ANY_BLOCKED = "SELECT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'blocked')"


def is_any_blocked(cursor: Cursor) -> bool:
    """Say whether any task is parked by a rule."""
    cursor.execute(_ANY_BLOCKED)
    return bool(cursor.fetchone()[0])
