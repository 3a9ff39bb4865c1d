"""Why a pending task is not running: machine-readable reasons, from one statement over indexes."""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.db import connection

from tasks_app.conf import conf
from tasks_app.states import PENDING

POSITION_CAP: Final = 10_000
HOLDERS_SHOWN: Final = 20

_WHY: Final = """
SELECT t.state, t.run_at > taskmill_now() AS is_early, t.run_at, t.queue, t.concurrency_key,
    t.max_concurrency,
    EXISTS (SELECT 1 FROM taskmill_worker w WHERE t.queue = ANY(w.queues) AND NOT w.is_stopping
        AND w.last_seen_at > taskmill_now() - make_interval(secs => %(lost_after)s::float8)),
    (SELECT count(*) FROM taskmill_task a
     WHERE a.tenant_id = t.tenant_id AND a.concurrency_key = t.concurrency_key
       AND a.finished_at IS NULL AND a.state IN ('dispatched', 'running', 'cancelling')
       AND a.id <> t.id),
    ARRAY(SELECT a.id::text FROM taskmill_task a
     WHERE a.tenant_id = t.tenant_id AND a.concurrency_key = t.concurrency_key
       AND a.finished_at IS NULL AND a.state IN ('dispatched', 'running', 'cancelling')
       AND a.id <> t.id LIMIT %(holders)s),
    (SELECT count(*) FROM (
        (SELECT 1 FROM taskmill_task a WHERE t.state = 'queued' AND a.state = 'queued'
            AND a.queue = t.queue AND a.priority > t.priority LIMIT %(cap)s)
        UNION ALL
        (SELECT 1 FROM taskmill_task a WHERE t.state = 'queued' AND a.state = 'queued'
            AND a.queue = t.queue AND a.priority = t.priority
            AND (a.run_at, a.id) < (t.run_at, t.id) LIMIT %(cap)s)) ahead)
FROM taskmill_task t WHERE t.id = %(id)s AND t.tenant_id = %(tenant)s
"""


def waiting_reasons(*, tenant_id: int, task_id: uuid.UUID) -> list[dict[str, Any]] | None:
    """Give the reasons why a task waits, the weightiest first; None where it does not wait.

    `not_before` (run_at), `no_worker` (queue), `concurrency_limit` (key, used, limit, holders),
    `behind` (position: tasks of its queue that go first, at most 10,000; estimated_start: null).
    """
    values: dict[str, Any] = {"id": task_id, "tenant": tenant_id}
    values["lost_after"] = conf().lease_seconds
    with connection.cursor() as cursor:
        cursor.execute(_WHY, values | {"holders": HOLDERS_SHOWN, "cap": POSITION_CAP})
        found = cursor.fetchone()
    if found is None or found[0] not in PENDING:
        return None
    return _reasons(found)


def _reasons(found: tuple[Any, ...]) -> list[dict[str, Any]]:
    state, is_early, run_at, queue, key, limit, is_served, used, holders, ahead = found
    reasons: list[dict[str, Any]] = []
    if is_early:
        reasons.append({"reason": "not_before", "run_at": run_at})
    if not is_served:
        reasons.append({"reason": "no_worker", "queue": queue})
    if key is not None and state != "dispatched" and used >= limit:
        reasons.append(
            {
                "reason": "concurrency_limit",
                "key": key,
                "used": used,
                "limit": limit,
                "holders": holders,
            }
        )
    if ahead:
        position = min(ahead, POSITION_CAP)
        reasons.append({"reason": "behind", "position": position, "estimated_start": None})
    return reasons
