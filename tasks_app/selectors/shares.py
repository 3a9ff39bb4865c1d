"""How many tasks of other flows go before a ready task: what their shares let them have meanwhile.

Flows take turns by weight, and of two whose turn it is at a time the one goes whose first task has
waited longer. What they have out already, and what they used lately, is not foreseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db import connection

from tasks_app.limits import Flow
from tasks_app.models import QueueOrder
from tasks_app.transitions import Tour, find_level

_COUNTS: Final = """
SELECT n.tenant_id, (SELECT count(*) FROM (
    SELECT FROM taskmill_task t WHERE t.state = 'queued' AND t.queue = %(queue)s
        AND t.priority = %(priority)s AND t.tenant_id = n.tenant_id
        AND t.fair_key BETWEEN n.fair_key AND n.fair_key
    ORDER BY t.fair_key, t.run_at, t.id LIMIT n.most) waiting)
FROM unnest(%(tenants)s::bigint[], %(keys)s::text[], %(most)s::int[])
    AS n(tenant_id, fair_key, most)
"""


def ahead_in_shares(row: Mapping[str, Any], *, cap: int) -> int:
    """Count the tasks of the same priority and of other flows that go before one.

    Args:
        row: `{queue, order, priority, tenant_id, fair_key, own_ahead}` of a ready task; `own_ahead`
            are those of its own flow that go first.
        cap: most tasks to count, all flows together.
    """
    if row["order"] != QueueOrder.PRIORITY:
        return 0
    with connection.cursor() as cursor:
        level = find_level(cursor, queue=row["queue"], below=row["priority"] + 1, tour=Tour())
    if level is None or level.priority != row["priority"]:
        return 0
    order = list(level.weights)
    mine = [flow for flow in order if flow.tenant_id == row["tenant_id"]]
    own = Flow(row["tenant_id"], row["fair_key"])
    if own not in mine:
        return 0
    turns: int = row["own_ahead"]
    siblings = {flow: turns + (mine.index(flow) < mine.index(own)) for flow in mine if flow != own}
    among_mine = _waiting(row, siblings, cap)
    turns += among_mine
    others = {}
    for flow in order:
        if flow not in mine:
            whole, rest = divmod(turns * level.weights[flow], level.weights[own])
            is_first = order.index(flow) < order.index(mine[0])
            others[flow] = whole + (1 if rest else is_first)
    return among_mine + _waiting(row, others, cap)


def _waiting(row: Mapping[str, Any], most: Mapping[Flow, int], cap: int) -> int:
    """Count what waits of some flows, at most `most` of each flow, and of another tenant at most
    that of one of its flows.
    """
    if not most:
        return 0
    values = {
        "queue": row["queue"],
        "priority": row["priority"],
        "tenants": [flow.tenant_id for flow in most],
        "keys": [flow.fair_key for flow in most],
        "most": [min(number, cap // len(most) + 1) for number in most.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, values)
        rows = cursor.fetchall()
    limits: dict[int, int] = {}
    for flow, number in most.items():
        limits[flow.tenant_id] = max(number, limits.get(flow.tenant_id, 0))
    limits[row["tenant_id"]] = cap
    found: dict[int, int] = {}
    for tenant_id, count in rows:
        found[tenant_id] = min(limits[tenant_id], found.get(tenant_id, 0) + count)
    return sum(found.values())
