"""Who is at work: workers and the leaders of the engine's loops, judged by the database clock."""

from __future__ import annotations

from typing import Any, Final

from django.db import connection

from tasks_app.conf import conf
from tasks_app.db import rows_as_dicts

_WORKERS = """
SELECT id, name, queues, slots, busy, memory_bytes, started_at, last_seen_at,
       CASE WHEN last_seen_at < taskmill_now() - make_interval(secs => %(lease)s) THEN 'lost'
            WHEN is_stopping THEN 'stopping' ELSE 'online' END AS status
FROM taskmill_worker ORDER BY last_seen_at DESC, id LIMIT %(most)s
"""


def workers_known(*, most: int = 1000) -> list[dict[str, Any]]:
    """Give the workers, newest sign of life first.

    `{id, name, queues, slots, busy, memory_bytes, started_at, last_seen_at, status}`; the status is
    `lost` after three renewals without a sign.
    """
    with connection.cursor() as cursor:
        cursor.execute(_WORKERS, {"lease": conf().lease_seconds, "most": most})
        return rows_as_dicts(cursor)


_LEADERS = """
SELECT loop, holder, expires_at > taskmill_now() AS is_alive FROM taskmill_leader ORDER BY loop
"""


def loops_led() -> list[dict[str, Any]]:
    """Give every loop that ever had a leader: `{loop, holder, is_alive}`."""
    with connection.cursor() as cursor:
        cursor.execute(_LEADERS)
        return rows_as_dicts(cursor)


FAILING_SECONDS: Final = 180.0
"""A step that failed so lately is failing: a broken one is tried more often than this."""

_FAILED_STEPS = """
SELECT step, failures, reason,
    failed_at > taskmill_now() - make_interval(secs => %(seconds)s::float8) AS is_failing
FROM taskmill_failed_step ORDER BY step
"""


def failed_steps() -> list[dict[str, Any]]:
    """Give every step of the maintain loop that ever failed: `{step, failures, reason,
    is_failing}`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FAILED_STEPS, {"seconds": FAILING_SECONDS})
        return rows_as_dicts(cursor)
