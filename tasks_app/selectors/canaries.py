"""Canaries: tiny tasks that the platform sends through its queues, to see that they come back.

They belong to a tenant of their own, which has no keys: no list, statistic or stream of another
tenant holds them.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts

CANARY_TENANT: Final = "taskmill-canary"
CANARY_TYPE: Final = "taskmill.canary"
SEEN_CAP: Final = 20_000

_SEEN: Final = """
WITH seen AS (
    SELECT t.* FROM taskmill_tenant n CROSS JOIN LATERAL (
        SELECT c.id, c.queue, c.state, c.created_at, c.finished_at FROM taskmill_task c
        WHERE c.tenant_id BETWEEN n.id AND n.id
        ORDER BY c.tenant_id, c.id DESC LIMIT %(cap)s) t
    WHERE n.slug = %(slug)s
), last AS (
    SELECT DISTINCT ON (queue) queue, id, extract(epoch FROM finished_at - created_at) AS delay
    FROM seen WHERE state = 'success' ORDER BY queue, id DESC
)
SELECT s.queue, l.delay::float8 AS delay_seconds, coalesce(extract(epoch FROM taskmill_now()
    - min(s.created_at) FILTER (WHERE s.state <> 'success' AND (l.id IS NULL OR s.id > l.id))),
    0)::float8 AS silent_seconds
FROM seen s LEFT JOIN last l ON l.queue = s.queue LEFT JOIN taskmill_queue q ON q.name = s.queue
WHERE q.is_paused IS NOT true GROUP BY s.queue, l.delay ORDER BY s.queue
"""
"""The order names the tenant: see `measures`; without a canary it would read every task."""


def canaries_seen() -> list[dict[str, Any]]:
    """Give `{queue, delay_seconds, silent_seconds}` of the queues that canaries were sent through.

    The delay is from submission to success, of the newest that came back, or None; silent is the
    age of the oldest sent after that one, or 0. Paused queues are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, {"slug": CANARY_TENANT, "cap": SEEN_CAP})
        return rows_as_dicts(cursor)
