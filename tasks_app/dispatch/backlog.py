"""What waits and who serves it: the dispatch loop's one look at the database per round.

The ready queues are found by jumping from one queue to the next in the index `task_ready`, so the
look costs as many index probes as there are queues, whatever the backlog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks_app.db import Cursor, rows_as_dicts
from tasks_app.models import QueueOrder
from tasks_app.transitions.picking import most_of_tenant as most_of_tenant_sql


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
        ageing_seconds: of its row, or None for the platform's.
        is_layered: whether it goes by priority and ready tasks are of several priorities.
        is_shared: whether it goes by priority and ready tasks of one priority are of several flows.
        running: its tasks that run; counted where flows share now or did lately, else None.
        max_share: of its row, or None for the platform's.
        most_of_tenant: tasks that a tenant may have handed out or running; None for any number.
        tenants: the first and the last of those that have ready tasks; one where it is the same,
            none where it does not go by priority.
        is_keeping: whether its row says that tenants shared it lately.
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
    ageing_seconds: int | None = None
    is_layered: bool = False
    is_shared: bool = False
    running: int | None = None
    max_share: int | None = None
    most_of_tenant: int | None = None
    tenants: frozenset[int] = frozenset()
    is_keeping: bool = False


LEVELS = 8
"""Priorities of a queue in which is looked whether flows share."""

_FLOW_AT: Final = """(SELECT t.tenant_id, t.fair_key FROM taskmill_task t
        WHERE t.state = 'queued' AND t.queue = r.queue AND t.priority = l.priority
        ORDER BY {by} LIMIT 1)"""
_FLOWS: Final = f"""
    WITH RECURSIVE level AS (
        (SELECT t.priority FROM taskmill_task t WHERE t.state = 'queued' AND t.queue = r.queue
         ORDER BY t.priority DESC LIMIT 1)
        UNION ALL
        SELECT n.priority FROM level l CROSS JOIN LATERAL (
            SELECT t.priority FROM taskmill_task t WHERE t.state = 'queued' AND t.queue = r.queue
              AND t.priority < l.priority ORDER BY t.priority DESC LIMIT 1) n
    )
    SELECT count(*) > 1 AS is_layered,
        bool_or((first.tenant_id, first.fair_key) <> (last.tenant_id, last.fair_key)) AS is_shared,
        ARRAY[min(first.tenant_id), max(last.tenant_id)] AS tenants
    FROM (SELECT priority FROM level LIMIT {LEVELS}) l
    CROSS JOIN LATERAL {_FLOW_AT.format(by="t.tenant_id, t.fair_key")} first
    CROSS JOIN LATERAL {_FLOW_AT.format(by="t.tenant_id DESC, t.fair_key DESC")} last
"""  # noqa: S608 - built from constants

_COLUMNS: Final[dict[str, tuple[str, str]]] = {
    "name": ("r.queue", "q.name"),
    "slots": ("coalesce(s.slots, 0)", "0"),
    "outstanding": (
        """(SELECT count(*) FROM taskmill_task d
            WHERE d.state = 'dispatched' AND d.queue = r.queue)""",
        "1",
    ),
    "is_known": ("q.name IS NOT NULL", "true"),
    "is_paused": ("false", "true"),
    "order": ("coalesce(q.\"order\", 'priority')", 'q."order"'),
    "window_least": ("q.window_least", "NULL"),
    "window_most": ("q.window_most", "NULL"),
    "is_limited": ("q.concurrency IS NOT NULL OR q.rate IS NOT NULL", "false"),
    "ageing_seconds": ("q.ageing_seconds", "NULL"),
    "is_layered": ("coalesce(f.is_layered, false)", "false"),
    "is_shared": ("coalesce(f.is_shared, false)", "false"),
    "running": (
        """CASE WHEN f.is_shared OR r.queue = ANY(%(narrow)s::text[]) THEN (
            SELECT count(*) FROM taskmill_task a
            WHERE a.state IN ('running', 'cancelling') AND a.queue = r.queue) END""",
        "NULL",
    ),
    "max_share": ("q.max_share", "NULL"),
    "most_of_tenant": (most_of_tenant_sql("s.slots"), "NULL"),
    "tenants": ("coalesce(f.tenants, '{}')", "'{}'"),
    "is_keeping": ("coalesce(q.shared_until > taskmill_now(), false)", "false"),
}
"""The fields of `ReadyQueue`: what they are of a ready queue, and of a paused one."""


def _columns(of: int) -> str:
    return ", ".join(f'{column[of]} AS "{name}"' for name, column in _COLUMNS.items())


_READY = f"""
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
SELECT {_columns(0)}
FROM ready r LEFT JOIN served s ON s.name = r.queue LEFT JOIN taskmill_queue q ON q.name = r.queue
LEFT JOIN LATERAL ({_FLOWS}) f ON coalesce(q."order", 'priority') = 'priority'
WHERE r.queue IS NOT NULL AND (s.name IS NOT NULL OR q.name IS NULL) AND q.is_paused IS NOT true
UNION ALL
SELECT {_columns(1)}
FROM taskmill_queue q CROSS JOIN LATERAL (SELECT 1 FROM taskmill_task d
                    WHERE d.state = 'dispatched' AND d.queue = q.name LIMIT 1) AS hint
WHERE q.is_paused
"""  # noqa: S608 - built from constants


def find_ready_queues(
    cursor: Cursor, *, seen_seconds: float, free_slot_of: int, narrow: Sequence[str] = ()
) -> list[ReadyQueue]:
    """Find the queues that have ready tasks and workers that take them, those that have no row
    yet, and those that are paused while hints of them are out.

    Args:
        seen_seconds: a worker not seen for so long counts as lost.
        free_slot_of: one of so many slots is kept free where tenants shared lately; 0 for none.
        narrow: queues in which flows shared lately.
    """
    values = {"seen": seen_seconds, "narrow": list(narrow), "free_slot_of": free_slot_of}
    cursor.execute(_READY, values)
    return [_ready_queue(row) for row in rows_as_dicts(cursor)]


def _ready_queue(row: dict[str, Any]) -> ReadyQueue:
    order, tenants = QueueOrder(row["order"]), frozenset(row["tenants"])
    return ReadyQueue(**row | {"order": order, "tenants": tenants})


_ANY_BLOCKED = "SELECT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'blocked')"


def is_any_blocked(cursor: Cursor) -> bool:
    """Say whether any task is parked by a rule."""
    cursor.execute(_ANY_BLOCKED)
    return bool(cursor.fetchone()[0])
