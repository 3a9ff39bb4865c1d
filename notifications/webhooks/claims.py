"""The statements of the sending loop: find what is due, lease it, write what came of it, prune.

A lease is `next_try_at` moved past the longest try: what its sender does not report is due again.
`epoch` fences reports: a sender that lost its lease changes nothing but the log.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from notifications.sealing import SealBroken, unseal
from notifications.webhooks.lanes import Candidate
from notifications.webhooks.verdict import Outcome, Verdict
from tasks_app.db import Cursor

FAILURES_TO_DISABLE: Final = 10
"""Fewer than these in a row disable no endpoint, however long ago the last success was."""

PRUNE_LIMIT: Final = 500

CANDIDATES: Final = """
WITH RECURSIVE lanes AS (
    (SELECT lane, tenant_id FROM taskmill_webhook_delivery WHERE state = 'pending'
     ORDER BY lane, next_try_at, id LIMIT 1)
    UNION ALL
    SELECT n.lane, n.tenant_id FROM lanes l CROSS JOIN LATERAL (
        SELECT lane, tenant_id FROM taskmill_webhook_delivery
        WHERE state = 'pending' AND lane > l.lane ORDER BY lane, next_try_at, id LIMIT 1) n
)
SELECT d.id, l.lane, l.tenant_id FROM lanes l CROSS JOIN LATERAL (
    SELECT id, next_try_at FROM taskmill_webhook_delivery
    WHERE state = 'pending' AND lane = l.lane AND next_try_at <= taskmill_now()
    ORDER BY lane, next_try_at, id LIMIT %(most_per_lane)s) d
WHERE l.lane <> ALL(%(full)s::text[])
ORDER BY d.next_try_at, d.id LIMIT %(most)s
"""
"""The oldest of each lane: a lane with a long backlog, or none of whose tries may begin, costs one
look-up, not its length."""

NEXT_DUE: Final = """
SELECT extract(epoch FROM next_try_at - taskmill_now())::float8 FROM taskmill_webhook_delivery
WHERE state = 'pending' ORDER BY next_try_at LIMIT 1
"""
CLAIM: Final = """
WITH taken AS (
    UPDATE taskmill_webhook_delivery SET epoch = epoch + 1, tries = tries + 1,
        next_try_at = taskmill_now() + make_interval(secs => %(lease)s::float8),
        leased_until = taskmill_now() + make_interval(secs => %(lease)s::float8)
    WHERE id = ANY(%(ids)s::uuid[]) AND state = 'pending' AND next_try_at <= taskmill_now()
    RETURNING *
)
SELECT t.id, t.epoch, t.tries - t.tries_base AS tries, t.lane, t.tenant_id, t.endpoint_id,
    t.event_type, t.body, coalesce(e.url, t.url) AS url,
    extract(epoch FROM taskmill_now())::bigint AS now,
    coalesce(e.secret, s.secret) AS secret,
    CASE WHEN coalesce(e.previous_until, s.previous_until) > taskmill_now()
        THEN coalesce(e.previous_secret, s.previous_secret) END AS previous_secret,
    n.is_active AND (t.endpoint_id IS NULL OR coalesce(e.is_enabled, false)) AS is_wanted
FROM taken t
JOIN taskmill_tenant n ON n.id = t.tenant_id
LEFT JOIN taskmill_webhook_endpoint e ON e.id = t.endpoint_id
LEFT JOIN taskmill_webhook_task_secret s ON t.endpoint_id IS NULL AND s.tenant_id = t.tenant_id
"""
_STOP: Final = """
UPDATE taskmill_webhook_delivery SET state = 'stopped', finished_at = taskmill_now(),
    leased_until = NULL, tries = tries - 1, last_error = 'stopped'
WHERE id = %(id)s::uuid AND epoch = %(epoch)s AND state = 'pending'
"""
REPORT: Final = """
WITH mine AS MATERIALIZED (
    SELECT id, tries, state FROM taskmill_webhook_delivery
    WHERE id = %(id)s::uuid AND epoch = %(epoch)s FOR UPDATE
), moved AS (
    UPDATE taskmill_webhook_delivery d SET state = %(state)s::text,
        next_try_at = taskmill_now() + make_interval(secs => %(delay)s::float8),
        leased_until = NULL,
        finished_at = CASE WHEN %(state)s::text <> 'pending' THEN taskmill_now() END,
        last_status = %(status)s::smallint, last_error = %(problem)s::text
    FROM mine WHERE d.id = mine.id AND mine.state = 'pending'
)
INSERT INTO taskmill_webhook_try (delivery_id, number, at, duration_ms, status, error, detail,
    address, response_head)
SELECT id, tries, taskmill_now(), %(duration)s, %(status)s::smallint, %(problem)s::text, %(detail)s,
    %(address)s, %(head)s
FROM mine ON CONFLICT (delivery_id, number) DO NOTHING
"""
_SUCCEEDED: Final = """
UPDATE taskmill_webhook_endpoint SET failures = 0, failing_since = NULL
WHERE id = %(endpoint)s::uuid AND failures > 0
"""
_FAILED: Final = """
UPDATE taskmill_webhook_endpoint SET failures = failures + 1,
    failing_since = coalesce(failing_since, taskmill_now()),
    is_enabled = NOT %(is_gone)s::bool AND NOT coalesce(failures + 1 >= %(least)s::int
        AND failing_since < taskmill_now() - make_interval(secs => %(disable)s::float8), false),
    updated_at = taskmill_now()
WHERE id = %(endpoint)s::uuid AND is_enabled
RETURNING is_enabled
"""
_FAILED_LONG_ENOUGH: Final = """
UPDATE taskmill_webhook_endpoint SET disabled_at = taskmill_now(), disabled_reason = %(reason)s
WHERE id = %(endpoint)s::uuid
"""
STOP_ALL: Final = """
UPDATE taskmill_webhook_delivery SET state = 'stopped', finished_at = taskmill_now(),
    leased_until = NULL, last_error = 'stopped'
WHERE lane = %(lane)s AND state = 'pending'
"""
PRUNE: Final = """
WITH old AS MATERIALIZED (
    SELECT id FROM taskmill_webhook_delivery
    WHERE finished_at < taskmill_now() - make_interval(secs => %(age)s::float8)
    ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), tries AS (
    DELETE FROM taskmill_webhook_try t USING old WHERE t.delivery_id = old.id
)
DELETE FROM taskmill_webhook_delivery d USING old WHERE d.id = old.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A leased delivery: everything that one try needs.

    Attributes:
        tries: since it was last granted its tries, this one included.
        now: Unix seconds of the database at the claim; the timestamp that is signed.
        keys: the secrets to sign with, the newest first; none where they cannot be read.
    """

    id: uuid.UUID
    epoch: int
    tries: int
    lane: str
    tenant_id: int
    endpoint_id: uuid.UUID | None
    event_type: str
    body: bytes
    url: str
    now: int
    keys: tuple[bytes, ...]


def find_candidates(
    cursor: Cursor, *, full: Sequence[str], most_per_lane: int, most: int
) -> list[Candidate]:
    """Give due deliveries, the oldest first, of lanes that are not full."""
    cursor.execute(CANDIDATES, {"full": full, "most_per_lane": most_per_lane, "most": most})
    return [Candidate(*row) for row in cursor.fetchall()]


def seconds_until_due(cursor: Cursor) -> float | None:
    """Give the seconds until a delivery is due, below 0 where one is; None without any."""
    cursor.execute(NEXT_DUE)
    row = cursor.fetchone()
    return None if row is None else float(row[0])


def claim(cursor: Cursor, candidates: Sequence[Candidate], *, lease_seconds: float) -> list[Order]:
    """Lease deliveries, and stop those whose receiver is disabled or gone; give what to send."""
    ids = [one.id for one in candidates]
    cursor.execute(CLAIM, {"ids": ids, "lease": lease_seconds})
    names = [column.name for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    orders = []
    for row in rows:
        if row.pop("is_wanted"):
            orders.append(_order_of(row))
        else:
            cursor.execute(_STOP, {"id": row["id"], "epoch": row["epoch"]})
    return orders


def _order_of(row: dict[str, Any]) -> Order:
    sealed = [row.pop("secret"), row.pop("previous_secret")]
    try:
        keys = tuple(unseal(one) for one in sealed if one)
    except SealBroken:
        keys = ()
    return Order(**row | {"body": row["body"].encode(), "keys": keys})


def report(cursor: Cursor, order: Order, outcome: Outcome, verdict: Verdict) -> None:
    """Log a try, and move its delivery unless somebody else has it now."""
    cursor.execute(
        REPORT,
        {
            "id": order.id,
            "epoch": order.epoch,
            "state": verdict.state.value,
            "delay": verdict.delay_seconds,
            "status": outcome.status,
            "problem": outcome.problem,
            "detail": outcome.detail,
            "duration": outcome.duration_ms,
            "address": outcome.address,
            "head": outcome.response_head,
        },
    )


def report_success(cursor: Cursor, endpoint_id: uuid.UUID) -> None:
    """Forget an endpoint's failures."""
    cursor.execute(_SUCCEEDED, {"endpoint": endpoint_id})


def report_failure(cursor: Cursor, order: Order, *, is_gone: bool, disable_seconds: float) -> str:
    """Count an endpoint's failure; disable it where it is gone or has failed for too long.

    Returns:
        Why it was disabled now; empty where it was not.
    """
    values = {"endpoint": order.endpoint_id, "is_gone": is_gone, "disable": disable_seconds}
    cursor.execute(_FAILED, values | {"least": FAILURES_TO_DISABLE})
    row = cursor.fetchone()
    if row is None or row[0]:
        return ""
    reason = "the receiver answered 410 Gone"
    if not is_gone:
        reason = f"no success for {disable_seconds / 86_400:g} days"
    cursor.execute(_FAILED_LONG_ENOUGH, {"endpoint": order.endpoint_id, "reason": reason})
    cursor.execute(STOP_ALL, {"lane": order.lane})
    return reason


def prune(cursor: Cursor, *, retention_days: float) -> int:
    """Remove at most five hundred deliveries that ended so long ago, with their tries."""
    cursor.execute(PRUNE, {"age": retention_days * 86_400, "limit": PRUNE_LIMIT})
    return cursor.rowcount
