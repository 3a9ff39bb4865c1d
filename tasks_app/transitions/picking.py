"""Which ready tasks of a queue go first: one pick per order, each served by the index `task_ready`.

A pick is the CTE `pick` of the dispatch statement; it locks what it takes. The index is ordered by
priority first. The orders by time read it priority by priority (as many probes as there are
different priorities) and merge what they find: an index of their own would be paid for by every
submission, whatever its queue's order.
"""

from __future__ import annotations

from typing import Final

from tasks_app.models import QueueOrder

_COLUMNS: Final = "id, tenant_id, type, concurrency_key, priority, run_at"
_READY: Final = "state = 'queued' AND queue = %(queue)s"
_DUE: Final = "run_at <= taskmill_now()"
_NOT_PAUSED: Final = """NOT EXISTS (SELECT 1 FROM taskmill_queue q
        WHERE q.name = %(queue)s AND q.is_paused)"""
"""Read in the statement that takes the tasks, so in the transaction that holds the leader row: who
pauses and then waits for that row knows that no task is taken any more."""

ORDERS: Final = {
    QueueOrder.PRIORITY: "{t}priority DESC, {t}run_at, {t}id",
    QueueOrder.OLDEST: "{t}run_at, {t}id",
    QueueOrder.NEWEST: "{t}run_at DESC, {t}id DESC",
}
"""The SQL order of a queue's tasks; `{t}` is the table's alias with its dot, or empty."""

PRIORITIES: Final = f"""priorities AS (
    (SELECT priority FROM taskmill_task WHERE {_READY} ORDER BY priority DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT t.priority FROM taskmill_task t
            WHERE t.{_READY.replace("AND ", "AND t.")} AND t.priority < p.priority
            ORDER BY t.priority DESC LIMIT 1)
    FROM priorities p WHERE p.priority IS NOT NULL
)"""  # noqa: S608 - built from constants
"""The different priorities of the ready tasks of a queue: one index probe each."""


def pick_of(order: QueueOrder) -> str:
    """Give the CTEs that take at most `room` ready tasks of `queue`; the last is called `pick`."""
    by = ORDERS[order]
    if order is QueueOrder.PRIORITY:
        return f"""pick AS MATERIALIZED (
    SELECT {_COLUMNS} FROM taskmill_task
    WHERE {_READY} AND {_DUE} AND {_NOT_PAUSED}
    ORDER BY {by.format(t="")} LIMIT %(room)s FOR UPDATE SKIP LOCKED
)"""  # noqa: S608 - built from constants
    return f"""RECURSIVE {PRIORITIES}, first AS MATERIALIZED (
    SELECT f.id FROM priorities p CROSS JOIN LATERAL (
        SELECT id, run_at FROM taskmill_task
        WHERE {_READY} AND priority = p.priority AND {_DUE}
        ORDER BY {by.format(t="")} LIMIT %(room)s
    ) f WHERE p.priority IS NOT NULL AND {_NOT_PAUSED}
    ORDER BY {by.format(t="f.")} LIMIT %(room)s
), pick AS MATERIALIZED (
    SELECT {_COLUMNS} FROM taskmill_task
    WHERE id = ANY(ARRAY(SELECT id FROM first)) AND state || '' = 'queued'
      AND queue || '' = %(queue)s AND {_DUE} FOR UPDATE SKIP LOCKED
)"""  # noqa: S608 - built from constants
