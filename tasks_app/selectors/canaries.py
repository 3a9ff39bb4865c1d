"""Canaries: tiny tasks that the platform sends through its queues, to see that they come back.

They belong to a tenant of their own, which has no keys: no list, statistic or stream of another
tenant holds them.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.selectors.parts import parts_of

CANARY_TENANT: Final = "taskmill-canary"
CANARY_TYPE: Final = "taskmill.canary"
SEEN_CAP: Final = 20_000

_NEWEST: Final = " UNION ALL ".join(
    f"""(SELECT t.id, t.queue, t.state, t.created_at, t.finished_at FROM taskmill_task t
        WHERE t.tenant_id BETWEEN n.id AND n.id AND {part}
        ORDER BY t.tenant_id, t.id DESC LIMIT %(cap)s)"""  # noqa: S608 - built from constants
    for part in parts_of(())
)
"""The order names the tenant: without a canary the planner would else read every task."""

_SEEN: Final = f"""
WITH seen AS (
    SELECT t.* FROM taskmill_tenant n CROSS JOIN LATERAL ({_NEWEST}) t WHERE n.slug = %(slug)s
), last AS (
    SELECT DISTINCT ON (queue) queue, id, extract(epoch FROM finished_at - created_at) AS delay
    FROM seen WHERE state = 'success' ORDER BY queue, id DESC
)
SELECT s.queue, l.delay::float8 AS delay_seconds, coalesce(extract(epoch FROM taskmill_now()
    - min(s.created_at) FILTER (WHERE s.state <> 'success' AND (l.id IS NULL OR s.id > l.id))),
    0)::float8 AS silent_seconds
FROM seen s LEFT JOIN last l ON l.queue = s.queue LEFT JOIN taskmill_queue q ON q.name = s.queue
WHERE q.is_paused IS NOT true GROUP BY s.queue, l.delay ORDER BY s.queue
"""  # noqa: S608 - built from constants


def canaries_seen() -> list[dict[str, Any]]:
    """Give `{queue, delay_seconds, silent_seconds}` of the queues that canaries were sent through.

    The delay is from submission to success, of the newest that came back, or None; silent is the
    age of the oldest sent after that one, or 0. Paused queues are left out.
    """
    with connection.cursor() as cursor:
        cursor.execute(_SEEN, {"slug": CANARY_TENANT, "cap": SEEN_CAP})
        return rows_as_dicts(cursor)
