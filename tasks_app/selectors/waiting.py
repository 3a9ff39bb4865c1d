"""Why a pending task is not running: machine-readable reasons, from statements over indexes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, Final

from django.db import connection

from tasks_app.conf import conf
from tasks_app.db import rows_as_dicts
from tasks_app.selectors.actors import actor_shown
from tasks_app.selectors.estimates import POSITION_CAP, behind_others
from tasks_app.selectors.limits import limit_reasons, queue_rate_reason
from tasks_app.selectors.parts import IS_UNDER_WAY
from tasks_app.states import PENDING
from tasks_app.transitions.picking import PRIORITIES, most_of_tenant

_AHEAD_BY_PRIORITY: Final = """SELECT count(*) FROM (
        SELECT FROM taskmill_task a WHERE a.state = 'queued' AND a.queue = why.queue
            AND a.priority > why.priority LIMIT %(cap)s) ahead"""
_AHEAD_IN_FLOW: Final = """SELECT count(*) FROM (
        SELECT FROM taskmill_task a WHERE a.state = 'queued' AND a.queue = why.queue
            AND a.priority = why.priority AND a.tenant_id = why.tenant_id
            AND a.fair_key >= why.fair_key
            AND (a.fair_key, a.run_at, a.id) < (why.fair_key, why.run_at, why.id)
        ORDER BY a.fair_key, a.run_at, a.id LIMIT %(cap)s) ahead"""


def _ahead_by_time(comparison: str) -> str:
    return f"""WITH RECURSIVE {PRIORITIES.replace("%(queue)s", "why.queue")}
        SELECT count(*) FROM priorities p CROSS JOIN LATERAL (
            SELECT 1 FROM taskmill_task a WHERE a.state = 'queued' AND a.queue = why.queue
                AND a.priority = p.priority
                AND (a.run_at, a.id) {comparison} (why.run_at, why.id) LIMIT %(cap)s) ahead"""  # noqa: S608 - built from constants


_WHY: Final = f"""
SELECT why.state, why.run_at > taskmill_now() AS is_early, why.run_at, why.queue,
    why.type, why.tenant_id, why.concurrency_key, why.max_concurrency, why.blocked_by,
    s.slots IS NOT NULL AS is_served,
    coalesce(q.is_paused, false) AS is_paused, q.paused_by, q.paused_at, q.pause_reason,
    q.concurrency AS queue_limit, q.rate AS queue_rate,
    CASE WHEN q.concurrency IS NOT NULL THEN (SELECT count(*) FROM taskmill_task a
        WHERE {IS_UNDER_WAY} AND a.queue = why.queue
          AND a.id <> why.id) END AS queue_used, q.max_share,
    CASE WHEN (q.max_share IS NOT NULL OR q.shared_until > taskmill_now())
        AND why.state = 'queued' THEN (SELECT count(*)
        FROM taskmill_task a WHERE {IS_UNDER_WAY}
          AND a.queue = why.queue AND a.tenant_id = why.tenant_id) END AS share_used,
    {most_of_tenant("s.slots")} AS share_limit,
    CASE WHEN why.state <> 'queued' THEN 0 ELSE CASE q."order"
        WHEN 'oldest' THEN ({_ahead_by_time("<")})
        WHEN 'newest' THEN ({_ahead_by_time(">")})
        ELSE ({_AHEAD_BY_PRIORITY}) END END AS ahead,
    CASE WHEN why.state = 'queued' AND coalesce(q."order", 'priority') = 'priority'
        THEN ({_AHEAD_IN_FLOW}) ELSE 0 END AS own_ahead,
    coalesce(q."order", 'priority') AS "order", why.priority, why.fair_key
FROM taskmill_task why LEFT JOIN taskmill_queue q ON q.name = why.queue
CROSS JOIN LATERAL (SELECT sum(w.slots)::int AS slots FROM taskmill_worker w
    WHERE why.queue = ANY(w.queues) AND NOT w.is_stopping
      AND w.last_seen_at > taskmill_now() - make_interval(secs => %(lost_after)s::float8)) s
WHERE why.id = %(id)s AND why.tenant_id = %(tenant)s
"""  # noqa: S608 - built from constants


def waiting_reasons(*, tenant_id: int, task_id: uuid.UUID) -> list[dict[str, Any]] | None:
    """Give the reasons why a task waits, the weightiest first; None where it does not wait.

    `queue_paused` (queue, by, since, pause_reason), `not_before` (run_at), `no_worker` (queue),
    `queue_limit` (queue, used, limit), `share_limit` (queue, used, limit; max_share: of its tenant,
    None where slots are kept free since tenants share the queue), `concurrency_limit` (key or type,
    used, limit, holders), `rate_limit` (of, name, rate, until), `behind` (position: tasks of its
    queue that go first, at most 10,000; estimated_start, or None).
    """
    values: dict[str, Any] = {"id": task_id, "tenant": tenant_id}
    values |= {"lost_after": conf().lease_seconds, "free_slot_of": conf().free_slot_of}
    with connection.cursor() as cursor:
        cursor.execute(_WHY, values | {"cap": POSITION_CAP})
        rows = rows_as_dicts(cursor)
    if not rows or rows[0]["state"] not in PENDING:
        return None
    reasons = [*_reasons_of_queue(rows[0]), *_reasons_of_task(rows[0])]
    return [*reasons, *behind_others(rows[0], reasons)]


def _reasons_of_queue(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if row["is_paused"]:
        yield {
            "reason": "queue_paused",
            "queue": row["queue"],
            "by": actor_shown(row["paused_by"], tenant_id=row["tenant_id"]),
            "since": row["paused_at"],
            "pause_reason": row["pause_reason"],
        }
    if row["is_early"]:
        yield {"reason": "not_before", "run_at": row["run_at"]}
    if not row["is_served"]:
        yield {"reason": "no_worker", "queue": row["queue"]}
    used, limit = row["queue_used"], row["queue_limit"]
    if limit is not None and row["state"] != "dispatched" and used >= limit:
        yield {"reason": "queue_limit", "queue": row["queue"], "used": used, "limit": limit}
    used, limit = row["share_used"], row["share_limit"]
    if row["is_served"] and None not in (used, limit) and used >= limit:
        share = {"used": used, "limit": limit, "max_share": row["max_share"]}
        yield {"reason": "share_limit", "queue": row["queue"]} | share
    if row["queue_rate"] is not None and row["state"] != "dispatched":
        yield from queue_rate_reason(row["queue"])


def _reasons_of_task(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if row["state"] != "dispatched":
        yield from limit_reasons(row)
