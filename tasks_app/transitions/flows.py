"""Which flows have ready tasks, what they have out, and which priorities have waited long: read for
the fair shares of a queue, each by jumping through an index.

The index `task_flows` has the ready tasks by queue, priority, tenant and fair key. A look costs one
probe per flow, however many tasks each has, and sees a bounded number of flows; the next goes on
where it ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from tasks_app.db import Cursor
from tasks_app.limits import Flow, Party

MOST_TENANTS: Final = 32
MOST_KEYS: Final = 16
"""Of each tenant."""

MOST_LEVELS: Final = 100
ABOVE_ALL: Final = 2**15
"""More than any priority."""

_READY: Final = "t.state = 'queued' AND t.queue = %(queue)s"


def _walk(name: str, columns: str, where: str, start: str, bound: str) -> str:
    """Give the recursive CTE that jumps through the values of the first of some columns.

    The order is that of the index to its end: no other index has it.
    """
    by = columns.split(", ", maxsplit=1)[0]
    step = f"SELECT {columns} FROM taskmill_task t WHERE {_READY} AND {where}"  # noqa: S608 - built from constants
    order = "ORDER BY t.tenant_id, t.fair_key, t.run_at, t.id LIMIT 1"
    return f"""{name} AS (
        ({step} AND t.{by} > {start} {bound} {order})
        UNION ALL
        SELECT n.* FROM {name} w CROSS JOIN LATERAL (
            {step} AND t.{by} > w.{by} {bound} {order}) n
    )"""  # noqa: S608 - built from constants


_AT_LEVEL: Final = "t.priority = (SELECT priority FROM level)"
_KEY: Final = "fair_key, run_at"
_OF_TENANT: Final = f"{_AT_LEVEL} AND t.tenant_id = s.tenant_id"
_LEVEL: Final = f"""level AS MATERIALIZED (
    SELECT t.priority FROM taskmill_task t WHERE {_READY} AND t.priority < %(below)s
    ORDER BY t.priority DESC LIMIT 1
)"""  # noqa: S608 - built from constants
_LEVEL_OF_OTHERS: Final = f"""levels AS (
    (SELECT t.priority FROM taskmill_task t WHERE {_READY} AND t.priority < %(below)s
     ORDER BY t.priority DESC LIMIT 1)
    UNION ALL
    SELECT n.priority FROM levels l CROSS JOIN LATERAL (
        SELECT t.priority FROM taskmill_task t WHERE {_READY} AND t.priority < l.priority
        ORDER BY t.priority DESC LIMIT 1) n
), level AS MATERIALIZED (
    SELECT l.priority FROM levels l CROSS JOIN LATERAL (
        SELECT FROM unnest(%(from)s::bigint[], %(to)s::bigint[]) AS g(low, high)
        CROSS JOIN LATERAL (
            SELECT FROM taskmill_task t WHERE {_READY} AND t.priority = l.priority
              AND t.tenant_id > g.low AND t.tenant_id < g.high
            ORDER BY t.tenant_id, t.fair_key, t.run_at, t.id LIMIT 1) other LIMIT 1
    ) others LIMIT 1
)"""  # noqa: S608 - built from constants
"""The first level with a task of a tenant that is not passed over: one probe between each two of
those and the next."""


def _find(level: str) -> str:
    return f"""
WITH RECURSIVE {level}, {_walk("later", "tenant_id", _AT_LEVEL, "%(after)s", "")},
{_walk("sooner", "tenant_id", _AT_LEVEL, "-1", "AND t.tenant_id <= %(after)s")},
seen AS (
    SELECT tenant_id, row_number() OVER () AS place FROM (
        SELECT tenant_id FROM (
            SELECT tenant_id FROM later UNION ALL SELECT tenant_id FROM sooner) every_one
        WHERE tenant_id <> ALL(%(passed_over)s::bigint[]) LIMIT %(tenants)s) s
)
SELECT (SELECT priority FROM level), s.tenant_id, k.fair_key, k.run_at, o.weight
FROM seen s JOIN taskmill_tenant o ON o.id = s.tenant_id
LEFT JOIN unnest(%(of)s::bigint[], %(keys)s::text[]) AS c(tenant_id, after)
    ON c.tenant_id = s.tenant_id
CROSS JOIN LATERAL (
    WITH RECURSIVE {_walk("later", _KEY, _OF_TENANT, "coalesce(c.after, '')", "")},
    {_walk("sooner", _KEY, _OF_TENANT, "''", "AND t.fair_key <= coalesce(c.after, '')")}
    SELECT fair_key, run_at FROM (
        (SELECT {_KEY} FROM taskmill_task t WHERE {_READY} AND {_OF_TENANT} AND t.fair_key <= ''
         ORDER BY t.fair_key, t.run_at, t.id LIMIT 1)
        UNION ALL SELECT * FROM later UNION ALL SELECT * FROM sooner LIMIT %(of_each)s) every
) k
ORDER BY s.place
"""  # noqa: S608 - built from constants


_FIND: Final = _find(_LEVEL)
_FIND_OTHERS: Final = _find(_LEVEL_OF_OTHERS)

_OUT: Final = """
SELECT o.tenant_id, o.fair_key, w.weight, count(*) FROM (
    SELECT tenant_id, fair_key FROM taskmill_task
    WHERE state = 'dispatched' AND queue = %(queue)s
    UNION ALL
    SELECT tenant_id, fair_key FROM taskmill_task
    WHERE state IN ('running', 'cancelling') AND queue = %(queue)s
) o JOIN taskmill_tenant w ON w.id = o.tenant_id GROUP BY 1, 2, 3
"""

_LONG_WAITING: Final = f"""
WITH RECURSIVE top AS MATERIALIZED (
    SELECT t.priority FROM taskmill_task t WHERE {_READY} ORDER BY t.priority DESC LIMIT 1
), level AS (
    (SELECT t.priority, t.run_at FROM taskmill_task t
     WHERE {_READY} AND t.priority < (SELECT least(priority, %(below)s) FROM top)
     ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1)
    UNION ALL
    SELECT n.priority, n.run_at FROM level l CROSS JOIN LATERAL (
        SELECT t.priority, t.run_at FROM taskmill_task t
        WHERE {_READY} AND t.priority < l.priority
        ORDER BY t.priority DESC, t.run_at, t.id LIMIT 1) n
)
SELECT priority FROM (SELECT * FROM level LIMIT %(most)s) l
WHERE run_at <= taskmill_now() - make_interval(secs => %(ageing)s::float8) LIMIT 1
"""  # noqa: S608 - built from constants


@dataclass(slots=True)
class Tour:
    """Where the looks for flows go on: at the beginning, unless there are more than a look sees.

    Attributes:
        tenant: the last one seen.
        keys: the last fair key seen of each tenant that has more.
    """

    tenant: int = -1
    keys: dict[int, str] = field(default_factory=dict)

    def move(self, flows: Sequence[Flow]) -> bool:
        """Note what a look saw; say whether that was all."""
        tenants = list(dict.fromkeys(flow.tenant_id for flow in flows))
        is_whole = len(tenants) < MOST_TENANTS
        self.tenant = -1 if is_whole else tenants[-1]
        for tenant_id in tenants:
            keys = [flow.fair_key for flow in flows if flow.tenant_id == tenant_id]
            self.keys.pop(tenant_id, None)
            if len(keys) >= MOST_KEYS:
                self.keys[tenant_id] = keys[-1]
                is_whole = False
        return is_whole


@dataclass(frozen=True, slots=True)
class Level:
    """A priority of a queue, and flows that have ready tasks of it, with their tenants' weights;
    the one whose first task is the oldest comes first.

    Attributes:
        is_whole: whether these are surely all.
    """

    priority: int
    weights: dict[Flow, int]
    is_whole: bool


def find_level(
    cursor: Cursor, *, queue: str, below: int, tour: Tour, passed_over: Collection[int] = ()
) -> Level | None:
    """Find the largest priority below one of which a queue has ready tasks, and the flows of it.

    Args:
        tour: where to go on; moved.
        passed_over: tenants whose tasks are not looked at.
    """
    gaps = [-1, *sorted(passed_over), 2**62]
    values = {
        "queue": queue,
        "below": below,
        "after": tour.tenant,
        "tenants": MOST_TENANTS,
        "of": list(tour.keys),
        "keys": list(tour.keys.values()),
        "of_each": MOST_KEYS,
        "passed_over": gaps[1:-1],
        "from": gaps[:-1],
        "to": gaps[1:],
    }
    cursor.execute(_FIND_OTHERS if passed_over else _FIND, values)
    rows = cursor.fetchall()
    if not rows:
        return None
    is_whole = tour.move([Flow(row[1], row[2]) for row in rows])
    rows.sort(key=lambda row: row[3])
    weights = {Flow(row[1], row[2]): row[4] for row in rows}
    return Level(rows[0][0], weights, is_whole=is_whole)


def read_out(cursor: Cursor, *, queue: str) -> dict[Flow, Party]:
    """Count what each flow of a queue has handed out or running."""
    cursor.execute(_OUT, {"queue": queue})
    return {
        Flow(tenant_id, fair_key): Party(weight=weight, out=out, is_waiting=False)
        for tenant_id, fair_key, weight, out in cursor.fetchall()
    }


def find_long_waiting(
    cursor: Cursor, *, queue: str, below: int, ageing_seconds: float
) -> int | None:
    """Find the next priority below one, and below the largest, whose oldest task has waited long.

    Returns:
        None where there is none, or none among the next 100.
    """
    values = {"queue": queue, "below": below, "ageing": ageing_seconds, "most": MOST_LEVELS}
    cursor.execute(_LONG_WAITING, values)
    row = cursor.fetchone()
    return None if row is None else int(row[0])
