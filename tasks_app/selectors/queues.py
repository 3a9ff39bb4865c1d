"""Queues: their defaults for submissions, and the queue board.

Numbers are of one tenant, or of all for operators. Each is counted in an index range and cut off at
a cap, which is then said; none grows with the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import connection

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import Cursor, rows_as_dicts
from tasks_app.registry import QUEUE_PATTERN, known_queues
from tasks_app.selectors.actors import actor_shown
from tasks_app.selectors.parts import AT_REST, IS_UNDER_WAY
from tasks_app.selectors.rows import decoded
from tasks_app.selectors.statistics import each_state
from tasks_app.states import State
from tasks_app.transitions.picking import PRIORITIES

DEFAULTS_SECONDS: Final = 5.0
"""A change of a queue's defaults holds for submissions of every process after that time."""

THROUGHPUT_SECONDS: Final = 300
COUNT_CAP: Final = 10_000
QUEUES_SHOWN: Final = 1_000
ACTIVE_SHOWN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDefaults:
    """What a queue says for tasks whose type and submission say nothing; None: nothing either."""

    priority: int | None = None
    max_retry: int | None = None
    process_timeout: int | None = None
    queue_timeout: int | None = None
    retry_policy: Mapping[str, Any] | None = None


_NONE: Final = QueueDefaults()
_DEFAULTS: Final = """
SELECT name, priority, max_retry, process_timeout, queue_timeout, retry_policy FROM taskmill_queue
WHERE coalesce(priority, max_retry, process_timeout, queue_timeout) IS NOT NULL
   OR retry_policy IS NOT NULL
"""
_NAMES: Final = "SELECT name FROM taskmill_queue"


@dataclass(slots=True)
class _Remembered:
    until: float = 0.0
    queues: Mapping[str, QueueDefaults] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


_remembered: Final = _Remembered()


def queue_defaults(name: str) -> QueueDefaults:
    """Give the defaults of a queue as they were at most `DEFAULTS_SECONDS` ago.

    Concurrency: thread-safe; one statement per process and `DEFAULTS_SECONDS`, none else.
    """
    if _remembered.until <= monotonic():
        _remember()
    return _remembered.queues.get(name, _NONE)


def _remember() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_DEFAULTS)
        rows = rows_as_dicts(cursor)
        cursor.execute(_NAMES)
        names = frozenset(row[0] for row in cursor.fetchall())
    for row in rows:
        row["retry_policy"] = decoded(row["retry_policy"])
    _remembered.names = names.union(known_queues())
    _remembered.queues = {row.pop("name"): QueueDefaults(**row) for row in rows}
    _remembered.until = monotonic() + DEFAULTS_SECONDS


def queues_unknown(names: Collection[str]) -> set[str]:
    """Give those of the names that no queue had at most `DEFAULTS_SECONDS` ago.

    Concurrency: as `queue_defaults`.
    """
    if _remembered.until <= monotonic():
        _remember()
    return {name for name in names if name not in _remembered.names}


def note_queues(names: Collection[str]) -> None:
    """Have this process know queues that are there, as committed, without reading them anew."""
    _remembered.names = _remembered.names.union(names)


def forget_queue_defaults() -> None:
    """Have this process read the defaults and the names anew."""
    _remembered.until = 0.0


_IN_USE: Final = f"""
WITH RECURSIVE used AS (
    (SELECT queue FROM taskmill_task WHERE tenant_id = %(tenant)s AND {AT_REST}
        ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT t.queue FROM taskmill_task t
            WHERE t.tenant_id = %(tenant)s AND t.queue > u.queue AND t.{AT_REST}
            ORDER BY t.queue LIMIT 1)
    FROM used u WHERE u.queue IS NOT NULL
)
SELECT name FROM taskmill_queue
UNION SELECT queue FROM used WHERE queue IS NOT NULL
UNION SELECT queue FROM taskmill_task WHERE tenant_id = %(tenant)s AND {IS_UNDER_WAY}
UNION SELECT unnest(queues) FROM taskmill_worker
UNION SELECT unnest(%(declared)s::text[])
ORDER BY 1 LIMIT %(most)s
"""  # noqa: S608 - built from constants


def queue_names(*, tenant_id: int | None) -> list[str]:
    """Give the queues that have a row, a worker, a task type or a task of the tenant, by name, at
    most `QUEUES_SHOWN`.
    """
    values = {"tenant": tenant_id, "declared": list(known_queues()), "most": QUEUES_SHOWN}
    with connection.cursor() as cursor:
        cursor.execute(_IN_USE, values)
        return [row[0] for row in cursor.fetchall()]


def queues_with_row(cursor: Cursor) -> list[str]:
    """Give the names of all queues that have a row: those that a worker of all queues serves."""
    cursor.execute("SELECT name FROM taskmill_queue ORDER BY name")
    return [row[0] for row in cursor.fetchall()]


_IS_IN_USE: Final = f"""
SELECT EXISTS (SELECT 1 FROM taskmill_queue WHERE name = %(name)s)
    OR (SELECT queue FROM taskmill_task WHERE tenant_id = %(tenant)s AND queue >= %(name)s
            AND {AT_REST} ORDER BY queue LIMIT 1) IS NOT DISTINCT FROM %(name)s
    OR %(name)s IN (SELECT queue FROM taskmill_task WHERE tenant_id = %(tenant)s AND {IS_UNDER_WAY})
    OR EXISTS (SELECT 1 FROM taskmill_worker WHERE %(name)s = ANY(queues))
"""  # noqa: S608 - built from constants


def is_queue(*, tenant_id: int, name: str) -> bool:
    """Say whether `queue_names` would list the name."""
    if not QUEUE_PATTERN.match(name):
        return False
    if name in known_queues():
        return True
    with connection.cursor() as cursor:
        cursor.execute(_IS_IN_USE, {"tenant": tenant_id, "name": name})
        return bool(cursor.fetchone()[0])


_ROWS: Final = """
SELECT n.name, coalesce(q.description, '') AS description, coalesce(q."order", 'priority') AS order,
    q.priority, q.max_retry, q.process_timeout, q.queue_timeout, q.retry_policy AS retry,
    q.ageing_seconds, q.max_share,
    CASE WHEN q.shared_until > taskmill_now() THEN q.shared_until END AS shared_until,
    q.window_least, q.window_most, q.concurrency, q.rate,
    q.max_waiting, q.max_waiting_bytes, q.max_submissions_per_minute,
    coalesce(q.is_paused, false) AS is_paused,
    nullif(q.paused_by, '') AS paused_by, q.paused_at, nullif(q.pause_reason, '') AS pause_reason,
    coalesce(w.workers, 0) AS workers, coalesce(w.slots, 0) AS slots
FROM unnest(%(names)s::text[]) AS n(name) LEFT JOIN taskmill_queue q ON q.name = n.name
LEFT JOIN (
    SELECT s.name, count(*)::int AS workers, sum(slots)::int AS slots
    FROM taskmill_worker, unnest(queues) AS s(name)
    WHERE NOT is_stopping
      AND last_seen_at > taskmill_now() - make_interval(secs => %(lost_after)s::float8)
    GROUP BY s.name
) w ON w.name = n.name
ORDER BY n.name
"""
_READY: Final = f"""
SELECT n.name, w.ready, d.dispatched, w.scanned >= %(cap)s OR d.scanned >= %(cap)s AS is_capped,
    extract(epoch FROM taskmill_now() - o.since)::float8 AS oldest_waiting_seconds
FROM unnest(%(names)s::text[]) AS n(name) CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE {{mine}}) AS ready, count(*) AS scanned FROM (
        SELECT tenant_id FROM taskmill_task WHERE state = 'queued' AND queue = n.name
        LIMIT %(cap)s) few
) w CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE {{mine}}) AS dispatched, count(*) AS scanned FROM (
        SELECT tenant_id FROM taskmill_task WHERE state = 'dispatched' AND queue = n.name
        LIMIT %(cap)s) few
) d CROSS JOIN LATERAL (
    WITH RECURSIVE {PRIORITIES.replace("%(queue)s", "n.name")}
    SELECT min(f.since) AS since FROM priorities p CROSS JOIN LATERAL (
        SELECT coalesce(queued_at, run_at) AS since FROM (
            SELECT tenant_id, queued_at, run_at FROM taskmill_task
            WHERE state = 'queued' AND queue = n.name AND priority = p.priority
            ORDER BY run_at, id LIMIT %(cap)s) few
        WHERE {{mine}} ORDER BY run_at LIMIT 1
    ) f
) o
"""  # noqa: S608 - built from constants
_MINE: Final = _READY.format(mine="tenant_id = %(tenant)s")
_EVERYBODYS: Final = _READY.format(mine="true")

_LATE: Final = f"""
WITH late AS MATERIALIZED (
    {each_state("SELECT state, queue", sorted(set(State) - {State.QUEUED, State.DISPATCHED}))}
)
SELECT queue, state, count(*) AS number, (SELECT max(number) > %(cap)s FROM
    (SELECT count(*) AS number FROM late GROUP BY state) AS sizes) AS is_capped
FROM late GROUP BY queue, state
"""  # noqa: S608 - built from constants

_FINISHED: Final = """
SELECT queue, count(*) FROM (
    SELECT queue FROM taskmill_task
    WHERE tenant_id = %(tenant)s AND finished_at IS NOT NULL
      AND finished_at > taskmill_now() - make_interval(secs => %(seconds)s)
    ORDER BY finished_at DESC LIMIT %(cap)s
) few GROUP BY queue
"""


def queues_shown(*, tenant_id: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """Give queues by name: what holds for them, who serves them, and the tenant's numbers.

    Numbers are `counts` (state -> tasks, zeros left out), `counts_capped`,
    `oldest_waiting_seconds` (None where none is ready) and `finished_last_5_minutes`.
    """
    values: dict[str, Any] = {
        "names": list(names),
        "tenant": tenant_id,
        "cap": COUNT_CAP,
        "seconds": THROUGHPUT_SECONDS,
        "lost_after": conf().lease_seconds,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, values)
        rows = rows_as_dicts(cursor)
        cursor.execute(_MINE, values)
        ready = {row["name"]: row for row in rows_as_dicts(cursor)}
        cursor.execute(_LATE, values)
        late = rows_as_dicts(cursor)
        cursor.execute(_FINISHED, values)
        finished: dict[str, int] = dict(cursor.fetchall())
    is_cut = any(row["is_capped"] for row in late)
    for row in rows:
        mine = ready[row["name"]]
        row["retry"] = decoded(row["retry"])
        row["paused_by"] = actor_shown(row["paused_by"], tenant_id=tenant_id)
        counts = {one["state"]: one["number"] for one in late if one["queue"] == row["name"]}
        counts |= {"queued": mine["ready"], "dispatched": mine["dispatched"]}
        row["counts"] = {state: counts[state] for state in State if counts.get(state)}
        is_waited = bool(mine["ready"] or mine["dispatched"])
        row["is_unserved"] = is_waited and not row["workers"] and not row["is_paused"]
        row["counts_capped"] = is_cut or mine["is_capped"]
        row["oldest_waiting_seconds"] = mine["oldest_waiting_seconds"]
        row["finished_last_5_minutes"] = finished.get(row["name"], 0)
    return rows


def queues_loaded(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give for operators what waits in queues, of all tenants: `{ready, dispatched, is_capped,
    oldest_waiting_seconds}` by name.
    """
    values: dict[str, Any] = {"names": list(names), "cap": COUNT_CAP}
    with connection.cursor() as cursor:
        cursor.execute(_EVERYBODYS, values)
        return {row["name"]: row for row in rows_as_dicts(cursor)}


_RUNNING: Final = """
SELECT queue, count(*) FROM taskmill_task WHERE state IN ('running', 'cancelling') GROUP BY queue
"""


def running_by_queue() -> dict[str, int]:
    """Count the running tasks of all tenants; there are as many as the workers have slots."""
    with connection.cursor() as cursor:
        cursor.execute(_RUNNING)
        return dict(cursor.fetchall())


_ACTIVE: Final = """
SELECT id, type, started_at, nullif(worker, '') AS worker, progress FROM taskmill_task
WHERE tenant_id = %(tenant)s AND queue = %(name)s AND state IN ('running', 'cancelling')
ORDER BY started_at, id LIMIT %(most)s
"""


def active_tasks_of(*, tenant_id: int, name: str) -> list[dict[str, Any]]:
    """Give the tenant's running tasks of a queue, the longest first, at most `ACTIVE_SHOWN`."""
    values: dict[str, Any] = {"tenant": tenant_id, "name": name, "most": ACTIVE_SHOWN}
    with connection.cursor() as cursor:
        cursor.execute(_ACTIVE, values)
        return rows_as_dicts(cursor)
