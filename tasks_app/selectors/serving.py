"""Who serves a queue, which queues hold tasks that nobody will take, and how many wait since their
tenant has as many of a queue's slots as one may.

A queue is unserved while tasks of it are ready or handed out, it is not paused, and no live worker
names it. A worker that died counts as live for the rest of a lease since its last sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import connection

from tasks_app.conf import conf
from tasks_app.db import Cursor, rows_as_dicts
from tasks_app.transitions.picking import most_of_tenant

QUEUES_CAP: Final = 1_000
NAMES_SHOWN: Final = 20

_SERVES: Final = """FROM taskmill_worker w WHERE {queue} = ANY(w.queues) AND NOT w.is_stopping
      AND w.last_seen_at > taskmill_now() - make_interval(secs => %(lost_after)s::float8)"""
_IS_SERVED: Final = f"EXISTS (SELECT 1 {_SERVES})"


def _each_queue(name: str, state: str) -> str:
    """Give the CTE of the queues with tasks of a state: one index probe each."""
    return f"""{name} AS (
    (SELECT queue, 1 AS place FROM taskmill_task WHERE state = '{state}' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT t.queue FROM taskmill_task t WHERE t.state = '{state}' AND t.queue > p.queue
            ORDER BY t.queue LIMIT 1), p.place + 1
    FROM {name} p WHERE p.queue IS NOT NULL AND p.place < %(queues)s
)"""  # noqa: S608 - built from constants


_UNSERVED: Final = f"""
WITH RECURSIVE {_each_queue("ready", "queued")}, {_each_queue("handed_out", "dispatched")}
SELECT n.queue FROM (SELECT queue FROM ready UNION SELECT queue FROM handed_out) n
WHERE n.queue IS NOT NULL AND NOT {_IS_SERVED.format(queue="n.queue")}
  AND NOT EXISTS (SELECT 1 FROM taskmill_queue q WHERE q.name = n.queue AND q.is_paused)
ORDER BY n.queue
"""  # noqa: S608 - built from constants
_FACTS: Final = f"""
SELECT n.queue, coalesce(q.is_paused, false) AS is_paused, q.concurrency,
    {_IS_SERVED.format(queue="n.queue")} AS is_served
FROM unnest(%(names)s::text[]) AS n(queue) LEFT JOIN taskmill_queue q ON q.name = n.queue
"""  # noqa: S608 - built from constants
_HELD_BY_SHARES: Final = f"""
WITH limited AS MATERIALIZED (
    SELECT q.name, {most_of_tenant("s.slots")} AS most FROM taskmill_queue q
    CROSS JOIN LATERAL (SELECT sum(w.slots)::int AS slots {_SERVES.format(queue="q.name")}) s
    WHERE q.name = ANY(%(names)s::text[])
      AND (q.max_share IS NOT NULL OR q.shared_until > taskmill_now())
), out AS (
    SELECT queue, tenant_id FROM taskmill_task
    WHERE state = 'dispatched' AND queue = ANY(ARRAY(SELECT name FROM limited))
    UNION ALL
    SELECT queue, tenant_id FROM taskmill_task
    WHERE state IN ('running', 'cancelling') AND queue = ANY(ARRAY(SELECT name FROM limited))
), held AS MATERIALIZED (
    SELECT o.queue, o.tenant_id FROM out o JOIN limited l ON l.name = o.queue
    GROUP BY o.queue, o.tenant_id, l.most HAVING count(*) >= l.most
)
SELECT h.queue, few.number
FROM (SELECT queue, array_agg(tenant_id) AS tenants FROM held GROUP BY queue) h
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM (
        SELECT t.tenant_id FROM taskmill_task t WHERE t.state = 'queued' AND t.queue = h.queue
        ORDER BY t.priority DESC, t.tenant_id, t.fair_key, t.run_at, t.id LIMIT %(cap)s) ready
    WHERE ready.tenant_id = ANY(h.tenants)
) few
"""  # noqa: S608 - built from constants
"""In the order of the index `task_flows`, which has what is asked for; no other one serves it."""

_PAUSED: Final = "SELECT name FROM taskmill_queue WHERE is_paused ORDER BY name LIMIT %(queues)s"
_WITHOUT_WORKER: Final = f"""
SELECT q.name FROM taskmill_queue q WHERE NOT {_IS_SERVED.format(queue="q.name")}
ORDER BY q.name LIMIT %(queues)s
"""  # noqa: S608 - built from constants


def _values(**more: Any) -> dict[str, Any]:
    values = {"lost_after": conf().lease_seconds, "queues": QUEUES_CAP}
    return values | {"free_slot_of": conf().free_slot_of} | more


def unserved_queues(cursor: Cursor) -> list[str]:
    """Give the names of the queues whose waiting tasks nobody takes, of all tenants."""
    cursor.execute(_UNSERVED, _values())
    return [row[0] for row in cursor.fetchall()]


def queue_facts(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give `{is_paused, is_served, concurrency}` of queues by name."""
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, _values(names=list(names)))
        return {row.pop("queue"): row for row in rows_as_dicts(cursor)}


def held_by_shares(names: Sequence[str], *, cap: int) -> dict[str, int]:
    """Count the ready tasks of served queues whose tenants hold as many slots as one may.

    Args:
        names: of queues; those of which a tenant may hold all slots are not looked at.
        cap: most ready tasks of a queue to look at, the largest priority first.

    Returns:
        Counts by queue, where there are any.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HELD_BY_SHARES, _values(names=list(names), cap=cap))
        return dict(cursor.fetchall())


def paused_queues() -> list[str]:
    """Give the names of the paused queues."""
    return _names(_PAUSED)


def queues_without_worker() -> list[str]:
    """Give the names of the queues that no live worker serves, whether tasks wait or not."""
    return _names(_WITHOUT_WORKER)


def _names(statement: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(statement, _values())
        return [row[0] for row in cursor.fetchall()]
