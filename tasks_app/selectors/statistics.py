"""Numbers about a tenant's tasks, at a cost that does not grow with the table.

Every part is an index range of the tenant, cut off at a cap; a cut-off part says so (`is_capped`).
Finished tasks are taken by their time of submission (`task_list_state`: ids are UUIDv7, ordered by
it), the newest `SAMPLE_CAP` of each final state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.selectors.parts import part_with
from tasks_app.states import FINISHED, PENDING, PROCESSING, State, status_of

WINDOW_SECONDS: Final = {"1h": 3600, "24h": 86_400, "7d": 604_800}
COUNT_CAP: Final = 100_000
SAMPLE_CAP: Final = 5_000
LIVE_CAP: Final = 10_000
GROUPS_CAP: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Capped:
    """Rows of an answer, and whether a cap cut off what they were made from."""

    rows: list[dict[str, Any]]
    is_capped: bool


_TOTALS = " UNION ALL ".join(
    f"""SELECT '{state.value}', count(*) FROM (
        SELECT 1 FROM taskmill_task t
        WHERE t.tenant_id = %(tenant)s AND {part_with(state)} LIMIT %(cap)s + 1
    ) AS few"""  # noqa: S608 - built from constants
    for state in State
)


def tasks_by_status(*, tenant_id: int) -> Capped:
    """Count the kept tasks per status, each state up to `COUNT_CAP`: `{status, count}`."""
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, {"tenant": tenant_id, "cap": COUNT_CAP})
        found: dict[str, int] = dict(cursor.fetchall())
    counts: dict[str, int] = {}
    for state in State:
        status = status_of(state).value
        counts[status] = counts.get(status, 0) + min(found[state], COUNT_CAP)
    rows = [{"status": status, "count": count} for status, count in counts.items()]
    return Capped(rows=rows, is_capped=any(count > COUNT_CAP for count in found.values()))


def each_state(select: str, states: Sequence[State], more: str = "") -> str:
    """Give the newest tasks of each state, capped; states are literals, so that the planner knows
    how rare each is and never looks for a missing one in the index of all tasks.
    """
    return " UNION ALL ".join(
        f"""({select} FROM taskmill_task t
        WHERE tenant_id = %(tenant)s AND {part_with(state)} {more}
        ORDER BY id DESC LIMIT %(cap)s + 1)"""
        for state in states
    )


_LIVE = f"""
WITH live AS MATERIALIZED (
    {each_state("SELECT state, queue, type", sorted(PENDING | PROCESSING))}
)
SELECT queue, type, count(*) FILTER (WHERE state = ANY(%(pending)s)) AS pending,
       count(*) FILTER (WHERE state <> ALL(%(pending)s)) AS processing,
       (SELECT max(number) > %(cap)s FROM
            (SELECT count(*) AS number FROM live GROUP BY state) AS sizes) AS is_capped
FROM live GROUP BY GROUPING SETS ((queue), (type))
ORDER BY count(*) DESC LIMIT %(groups)s
"""  # noqa: S608 - built from constants


def live_tasks_by_group(*, tenant_id: int) -> Capped:
    """Count what waits and runs: `{queue, type, pending, processing}`, queue or type None."""
    values: dict[str, Any] = {
        "pending": sorted(PENDING),
        "tenant": tenant_id,
        "cap": LIVE_CAP,
        "groups": 2 * GROUPS_CAP,
    }
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, values)
        rows = rows_as_dicts(cursor)
    is_capped = any(row.pop("is_capped") for row in rows)
    return Capped(rows=rows, is_capped=is_capped)


_MEASURED = """SELECT state, queue, type,
        extract(epoch FROM coalesce(started_at, finished_at) - queued_at)::float8 AS wait,
        extract(epoch FROM finished_at - started_at)::float8 AS run"""
_WITHIN = """AND created_at >= taskmill_now() - make_interval(secs => %(seconds)s)
        AND id >= (lpad(to_hex(greatest(0, extract(epoch FROM taskmill_now()) * 1000
            - %(seconds)s * 1000 - 60000)::bigint), 12, '0') || '70008000000000000000')::uuid"""
_FINISHED_IN_WINDOW = f"""
WITH done AS MATERIALIZED (
    {each_state(_MEASURED, sorted(FINISHED), _WITHIN)}
)
SELECT queue, type, count(*) AS finished, count(*) FILTER (WHERE state = 'success') AS success,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state = 'error') AS error,
       count(*) FILTER (WHERE state = 'timeout') AS timeout,
       count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
       avg(wait) AS wait_average, avg(run) AS run_average,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY wait) AS wait_percentiles,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY run) AS run_percentiles,
       grouping(queue, type) AS level
FROM done GROUP BY GROUPING SETS ((), (queue), (type))
ORDER BY grouping(queue, type) DESC, count(*) DESC LIMIT %(groups)s
"""  # noqa: S608 - built from constants


def finished_tasks_by_group(*, tenant_id: int, window_seconds: int) -> Capped:
    """Measure the finished tasks of those submitted in the window: all, per queue, per type.

    Args:
        window_seconds: how far back their submission may lie.

    Returns:
        `{level, queue, type, finished, success, failed, error, timeout, cancelled, wait_average,
        run_average, wait_percentiles, run_percentiles}`: times in seconds, percentiles `[p50, p95,
        p99]`, level `OVERALL`, `PER_QUEUE` or `PER_TYPE`. Wait and run are the last attempt's.
    """
    values: dict[str, Any] = {
        "tenant": tenant_id,
        "seconds": window_seconds,
        "cap": SAMPLE_CAP,
        "groups": 2 * GROUPS_CAP + 1,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FINISHED_IN_WINDOW, values)
        rows = rows_as_dicts(cursor)
    overall = next(row for row in rows if row["level"] == OVERALL)
    is_capped = any(overall[state] > SAMPLE_CAP for state in FINISHED)
    return Capped(rows=rows, is_capped=is_capped)


OVERALL: Final = 3
PER_QUEUE: Final = 1
PER_TYPE: Final = 2
