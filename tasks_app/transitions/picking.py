"""Which ready tasks of a queue go first: one pick per order, each served by the index `task_ready`,
and one of what flows are granted, served by `task_flows`.

A pick is the CTE `pick` of the dispatch statement; it locks what it takes. The index is ordered by
priority first. The orders by time read it priority by priority (as many probes as there are
different priorities) and merge what they find: an index of their own would be paid for by every
submission, whatever its queue's order.
"""

from __future__ import annotations

from typing import Final

from tasks_app.models import QueueOrder

_COLUMNS: Final = """id, tenant_id, fair_key, type, queue, concurrency_key, max_concurrency,
        concurrency_strategy, attempt > attempt_base AS is_begun, priority,
        run_at"""
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


def most_of_tenant(slots: str) -> str:
    """Give the SQL of how many tasks of the queue `q` a tenant may have handed out or running, null
    for any number: what its `max_share` says, or, where tenants shared it lately, all but one of
    every `free_slot_of` slots (a parameter, 0 for none).

    Args:
        slots: SQL of those of its live workers.
    """
    free = f"nullif({slots} / nullif(%(free_slot_of)s::int, 0), 0)"
    return f"""CASE WHEN q."order" <> 'priority' THEN NULL
        WHEN q.max_share < 100 THEN greatest(1, {slots} * q.max_share / 100)
        WHEN q.max_share IS NULL AND q.shared_until > taskmill_now() THEN {slots} - {free} END"""


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


PICK_OF_FLOWS: Final = f"""pick AS MATERIALIZED (
    SELECT c.* FROM unnest(%(tenants)s::bigint[], %(keys)s::text[], %(takes)s::int[])
        AS f(tenant_id, fair_key, take)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM taskmill_task t
        WHERE {_READY} AND priority = %(priority)s AND t.tenant_id = f.tenant_id
          AND t.fair_key BETWEEN f.fair_key AND f.fair_key AND {_DUE} AND {_NOT_PAUSED}
        ORDER BY t.fair_key, run_at, id LIMIT f.take FOR UPDATE SKIP LOCKED
    ) c
)"""  # noqa: S608 - built from constants
"""The CTE that takes the first tasks of one priority of each flow.

Were the key equal to one, its place in the order would say nothing, and the planner might read all
older tasks of others in `task_ready` instead, which has the same order without it.
"""
