"""Numbers over the whole installation for reports: what finished in a span, what waits longest.

All tenants are in them, told apart by `tenant_id`; a face shows a tenant its own rows alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.selectors.canaries import CANARY_TYPE
from tasks_app.transitions.sql import IS_DEAD, IS_DONE


def _ended(of_class: str) -> str:
    return f"""SELECT tenant_id, queue, type, state, queued_at, started_at, finished_at
    FROM taskmill_task WHERE {of_class} AND finished_at >= %(start)s AND finished_at < %(end)s
      AND type <> %(canary)s"""  # noqa: S608 - built from constants


_FINISHED = f"""
SELECT tenant_id, queue, type,
    count(*) FILTER (WHERE state = 'success') AS success,
    count(*) FILTER (WHERE state = 'failed') AS failed,
    count(*) FILTER (WHERE state = 'error') AS error,
    count(*) FILTER (WHERE state = 'timeout') AS timeout,
    count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
    count(started_at) AS run_count,
    coalesce(sum(extract(epoch FROM finished_at - started_at)), 0)::float8 AS run_seconds,
    count(queued_at) AS wait_count,
    coalesce(sum(greatest(0, extract(epoch FROM coalesce(started_at, finished_at) - queued_at))),
        0)::float8 AS wait_seconds
FROM ({_ended(IS_DONE)} UNION ALL {_ended(IS_DEAD)}) ended
GROUP BY tenant_id, queue, type
"""  # noqa: S608 - built from constants

_OLDEST = """
SELECT queue, count(*) AS waiting,
    greatest(0, extract(epoch FROM taskmill_now() - min(queued_at)))::float8 AS oldest_seconds
FROM taskmill_task WHERE state IN ('queued', 'blocked', 'dispatched') AND finished_at IS NULL
GROUP BY queue ORDER BY oldest_seconds DESC NULLS LAST, queue LIMIT %(most)s
"""


def finished_between(start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Measure the tasks that finished from `start` on and before `end` (aware).

    One range of each index by time of finish; ask for an hour at a time.

    Returns:
        `{tenant_id, queue, type, success, failed, error, timeout, cancelled, run_count,
        run_seconds, wait_count, wait_seconds}`; run and wait are the last attempt's.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FINISHED, {"start": start, "end": end, "canary": CANARY_TYPE})
        return rows_as_dicts(cursor)


def queues_waiting_longest(*, most: int) -> list[dict[str, Any]]:
    """Give the queues whose oldest waiting task is oldest: `{queue, waiting, oldest_seconds}`."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST, {"most": most})
        return rows_as_dicts(cursor)
