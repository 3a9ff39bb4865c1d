"""Figures of the whole installation for metrics, each by indexes and cut off at a cap."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from tasks_app.conf import conf
from tasks_app.db import rows_as_dicts
from tasks_app.selectors.parts import part_with

QUEUES_CAP: Final = 100
PRIORITIES_CAP: Final = 100
COUNT_CAP: Final = 20_000
BY_TENANT: Final = ("scheduled", "retrying", "blocked", "running", "cancelling")
"""Live states that no index has over all tenants; those that have one are counted by it."""

_FEED: Final = """
WITH newest AS (
    SELECT first_sequence, last_sequence, seen_id, open_lows, open_highs FROM taskmill_feed
    ORDER BY first_sequence DESC LIMIT 1
), waiting AS (
    (SELECT at FROM taskmill_event WHERE id > coalesce((SELECT seen_id FROM newest), 0)
     ORDER BY id LIMIT 1)
    UNION ALL
    SELECT e.at FROM newest n
    CROSS JOIN LATERAL (SELECT * FROM unnest(n.open_lows, n.open_highs) LIMIT 100) o(low, high)
    CROSS JOIN LATERAL (
        SELECT at FROM taskmill_event WHERE id BETWEEN o.low AND o.high ORDER BY id LIMIT 1
    ) e
)
SELECT coalesce((SELECT last_sequence FROM newest), 0) AS last_sequence,
    coalesce(extract(epoch FROM taskmill_now() - (SELECT min(at) FROM waiting)), 0)::float8
        AS lag_seconds
"""
_SINKS: Final = """
SELECT c.sink,
    greatest(0, coalesce((SELECT last_sequence FROM taskmill_feed
        ORDER BY first_sequence DESC LIMIT 1), 0) - c.sequence) AS lag_events,
    coalesce(extract(epoch FROM taskmill_now() - (
        SELECT b.at FROM (
            SELECT at, last_sequence FROM taskmill_feed WHERE first_sequence <= c.sequence + 1
            ORDER BY first_sequence DESC LIMIT 1) b
        WHERE b.last_sequence > c.sequence)), 0)::float8 AS lag_seconds
FROM taskmill_feed_cursor c ORDER BY c.sink LIMIT 100
"""
_QUEUED: Final = """
WITH RECURSIVE ready AS (
    (SELECT queue, 1 AS place FROM taskmill_task WHERE state = 'queued' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT t.queue FROM taskmill_task t WHERE t.state = 'queued' AND t.queue > r.queue
            ORDER BY t.queue LIMIT 1), r.place + 1
    FROM ready r WHERE r.queue IS NOT NULL AND r.place < %(queues)s
)
SELECT r.queue, counted.number, greatest(0, extract(epoch FROM taskmill_now() - oldest.at))::float8
FROM ready r
CROSS JOIN LATERAL (SELECT count(*) AS number FROM (
    SELECT FROM taskmill_task t WHERE t.state = 'queued' AND t.queue = r.queue LIMIT %(cap)s
) few) counted
CROSS JOIN LATERAL (
    WITH RECURSIVE first AS (
        (SELECT priority, run_at, 1 AS place FROM taskmill_task t
         WHERE t.state = 'queued' AND t.queue = r.queue
         ORDER BY queue, priority DESC, run_at, id LIMIT 1)
        UNION ALL
        SELECT next.priority, next.run_at, f.place + 1 FROM first f CROSS JOIN LATERAL (
            SELECT priority, run_at FROM taskmill_task t
            WHERE t.state = 'queued' AND t.queue = r.queue AND t.priority < f.priority
            ORDER BY queue, priority DESC, run_at, id LIMIT 1) next
        WHERE f.place < %(priorities)s
    )
    SELECT min(run_at) AS at FROM first
) oldest
WHERE r.queue IS NOT NULL
"""
_DISPATCHED: Final = """
SELECT queue, count(*) FROM (
    SELECT queue FROM taskmill_task WHERE state = 'dispatched' ORDER BY queue LIMIT %(cap)s
) few GROUP BY queue ORDER BY count(*) DESC LIMIT %(queues)s
"""
_OF_STATE: Final = """(
    SELECT few.* FROM taskmill_tenant n CROSS JOIN LATERAL (
        SELECT t.state, t.queue, split_part(t.blocked_by, '/', 1) AS parked_by FROM taskmill_task t
        WHERE t.tenant_id = n.id AND {part} ORDER BY t.id DESC LIMIT %(cap)s
    ) few LIMIT %(cap)s
)"""
_BY_TENANT: Final = f"""
SELECT state, queue, CASE WHEN state = 'blocked' THEN parked_by END, count(*)
FROM ({" UNION ALL ".join(_OF_STATE.format(part=part_with(state)) for state in BY_TENANT)}) found
GROUP BY 1, 2, 3 ORDER BY count(*) DESC LIMIT %(queues)s
"""  # noqa: S608 - built from constants
"""States are literals: the planner would not know how rare a parameter's state is, take the primary
key for as good, and read every task in search of a state without any.
"""
_WORKERS: Final = """
SELECT CASE WHEN last_seen_at < taskmill_now() - make_interval(secs => %(lease)s) THEN 'lost'
            WHEN is_stopping THEN 'stopping' ELSE 'online' END AS status,
    count(*) AS workers, sum(slots) AS slots, sum(busy) AS busy, max(memory_bytes) AS memory_bytes
FROM taskmill_worker GROUP BY 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTasks:
    """Tasks that are not finished.

    Attributes:
        counts: by `(queue, state)`, each up to `COUNT_CAP`.
        parked: those that are `blocked`, of all queues, by what the rule limits: `slots`, `rate`.
        oldest_seconds: by queue, how long the longest waiting of its queued tasks has been due.
    """

    counts: dict[tuple[str, str], int]
    parked: dict[str, int]
    oldest_seconds: dict[str, float]


def feed_measures() -> dict[str, Any]:
    """Give `{last_sequence, lag_seconds}`: the lag is the age of what is not in the feed yet."""
    with connection.cursor() as cursor:
        cursor.execute(_FEED)
        return rows_as_dicts(cursor)[0]


def sink_measures() -> list[dict[str, Any]]:
    """Give `{sink, lag_events, lag_seconds}` of every sink that has a cursor."""
    with connection.cursor() as cursor:
        cursor.execute(_SINKS)
        return rows_as_dicts(cursor)


def live_tasks() -> LiveTasks:
    """Count what waits and runs, of at most `QUEUES_CAP` queues."""
    caps: dict[str, Any] = {
        "queues": QUEUES_CAP,
        "cap": COUNT_CAP,
        "priorities": PRIORITIES_CAP,
    }
    counts: Counter[tuple[str, str]] = Counter()
    parked: Counter[str] = Counter()
    oldest: dict[str, float] = {}
    with connection.cursor() as cursor:
        cursor.execute(_QUEUED, caps)
        for queue, number, seconds in cursor.fetchall():
            counts[queue, "queued"], oldest[queue] = number, seconds
        cursor.execute(_DISPATCHED, caps)
        for queue, number in cursor.fetchall():
            counts[queue, "dispatched"] = number
        cursor.execute(_BY_TENANT, caps | {"queues": QUEUES_CAP * len(BY_TENANT)})
        for state, queue, parked_by, number in cursor.fetchall():
            counts[queue, state] += number
            if parked_by is not None:
                parked[parked_by] += number
    return LiveTasks(counts=dict(counts), parked=dict(parked), oldest_seconds=oldest)


def worker_measures() -> list[dict[str, Any]]:
    """Give `{status, workers, slots, busy, memory_bytes}` by status; the memory of the largest."""
    with connection.cursor() as cursor:
        cursor.execute(_WORKERS, {"lease": conf().lease_seconds})
        return rows_as_dicts(cursor)
