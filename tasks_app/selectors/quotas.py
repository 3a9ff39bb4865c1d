"""Quotas: which tenants and queues have one, and how much of each is used.

What waits is counted in the rows, never kept as a number, so it cannot drift: each state is an
index range (of the tenant, or of the queue for all tenants), read up to the quota.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from tasks_app.clock import monotonic
from tasks_app.db import rows_as_dicts
from tasks_app.models.quota import MAX_WAITING
from tasks_app.states import PENDING

QUOTAS_SECONDS: Final = 5.0
"""A first quota of a tenant or queue holds in every process after that time, a change at once."""

PERIOD_SECONDS: Final = 60

_SCOPES: Final = """
SELECT 'tenant:' || id FROM taskmill_tenant
WHERE coalesce(max_waiting, max_waiting_bytes, max_submissions_per_minute) IS NOT NULL
UNION ALL
SELECT 'queue:' || name FROM taskmill_queue
WHERE coalesce(max_waiting, max_waiting_bytes, max_submissions_per_minute) IS NOT NULL
"""


@dataclass(slots=True)
class _Remembered:
    until: float = 0.0
    scopes: frozenset[str] = frozenset()


_remembered: Final = _Remembered()


def tenant_scope(tenant_id: int) -> str:
    """Give the name under which a tenant's quotas are counted."""
    return f"tenant:{tenant_id}"


def queue_scope(queue: str) -> str:
    """Give the name under which a queue's quotas are counted."""
    return f"queue:{queue}"


def scopes_with_quota(scopes: Collection[str]) -> list[str]:
    """Give those of the scopes that have a quota, sorted, as of at most `QUOTAS_SECONDS` ago.

    Concurrency: thread-safe; one statement per process and `QUOTAS_SECONDS`, none else.
    """
    if _remembered.until <= monotonic():
        with connection.cursor() as cursor:
            cursor.execute(_SCOPES)
            _remembered.scopes = frozenset(row[0] for row in cursor.fetchall())
        _remembered.until = monotonic() + QUOTAS_SECONDS
    return sorted(_remembered.scopes.intersection(scopes))


def forget_quotas() -> None:
    """Have this process read anew who has a quota."""
    _remembered.until = 0.0


def _used(kind: str, key: str, column: str) -> str:
    cast = "bigint" if kind == "tenant" else "text"
    branches = " UNION ALL ".join(
        f"SELECT payload_bytes FROM taskmill_task"  # noqa: S608 - built from constants
        f" WHERE {column} = h.{key} AND state = '{state.value}'"
        for state in sorted(PENDING)
    )
    return f"""
SELECT '{kind}:' || h.{key} AS scope, h.max_waiting, h.max_waiting_bytes,
    h.max_submissions_per_minute, w.waiting, w.waiting_bytes, coalesce(m.accepted, 0) AS accepted,
    coalesce(extract(epoch FROM m.started_at - taskmill_now()) + {PERIOD_SECONDS},
        {PERIOD_SECONDS})::float8 AS seconds_left
FROM taskmill_{kind} h CROSS JOIN LATERAL (
    SELECT count(*)::int AS waiting, coalesce(sum(payload_bytes), 0)::bigint AS waiting_bytes
    FROM ({branches} LIMIT coalesce(h.max_waiting,
        CASE WHEN h.max_waiting_bytes IS NULL THEN 0 ELSE {MAX_WAITING} END)) few
) w LEFT JOIN taskmill_submission_meter m ON m.scope = '{kind}:' || h.{key}
    AND m.started_at > taskmill_now() - interval '{PERIOD_SECONDS} s'
WHERE h.{key} = ANY(%({kind}s)s::{cast}[])
"""  # noqa: S608 - built from constants


USED: Final = f"""
{_used("tenant", "id", "tenant_id")}
UNION ALL
{_used("queue", "name", "queue")}
"""
"""What is in force and used now; public for the test of its plan."""


def quotas_used(*, tenants: Collection[int], queues: Collection[str]) -> list[dict[str, Any]]:
    """Give the quotas of tenants and queues with what is used of them, one statement for all.

    Counting stops at `max_waiting`, so a larger backlog shows as that. The numbers hold until the
    next commit of anybody: take the locks of the scopes first.
    """
    with connection.cursor() as cursor:
        cursor.execute(USED, {"tenants": list(tenants), "queues": list(queues)})
        return rows_as_dicts(cursor)


def quotas_shown(*, tenant_id: int) -> dict[str, dict[str, Any]]:
    """Give the quotas of a tenant, each `{limit, used}`; `used` is None where there is no limit.

    `max_submissions_per_minute` has `renewed_in_seconds` too, None before the first of a minute.
    """
    (row,) = quotas_used(tenants=[tenant_id], queues=[])
    used = {
        "max_waiting": row["waiting"],
        "max_waiting_bytes": row["waiting_bytes"],
        "max_submissions_per_minute": row["accepted"],
    }
    shown = {
        quota: {"limit": row[quota], "used": None if row[quota] is None else number}
        for quota, number in used.items()
    }
    minute = shown["max_submissions_per_minute"]
    minute["renewed_in_seconds"] = row["seconds_left"] if minute["used"] else None
    return shown
