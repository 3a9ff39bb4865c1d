"""Limits as their callers may see them: which of them a task waits for, and how far they are used.

What is in use is read with the dispatcher's own statement, so that both say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.limits import Rule, next_token_at, tokens_out
from tasks_app.models import Limit
from tasks_app.selectors.actors import actor_shown
from tasks_app.transitions.limiting import (
    HOLDS_SLOT,
    LimitState,
    Subject,
    read_limits,
    read_queue_room,
    subjects_of,
)

HOLDERS_SHOWN: Final = 20
COUNT_CAP: Final = 10_000

_HOLDERS_OF_KEY: Final = f"""
SELECT id, type, state, dispatched_at, started_at FROM taskmill_task
WHERE tenant_id = %(tenant)s AND concurrency_key = %(name)s AND finished_at IS NULL AND {HOLDS_SLOT}
ORDER BY dispatched_at, id LIMIT %(most)s
"""  # noqa: S608 - built from constants
_HOLDERS_OF_TYPE: Final = """
SELECT id FROM taskmill_task WHERE tenant_id = %(tenant)s AND type = %(name)s
  AND state = 'dispatched'
UNION ALL
SELECT id FROM taskmill_task WHERE tenant_id = %(tenant)s AND type = %(name)s
  AND state IN ('running', 'cancelling')
LIMIT %(most)s
"""
_WAITING: Final = """
SELECT count(*), max(max_concurrency) FROM (
    SELECT max_concurrency FROM taskmill_task
    WHERE tenant_id = %(tenant)s AND concurrency_key = %(name)s AND finished_at IS NULL
      AND state IN ('scheduled', 'queued', 'blocked', 'retrying') LIMIT %(cap)s
) few
"""
_OWN_LIMIT: Final = f"""
SELECT max(max_concurrency) FROM (
    SELECT max_concurrency FROM taskmill_task
    WHERE tenant_id = %(tenant)s AND concurrency_key = %(name)s AND finished_at IS NULL
      AND {HOLDS_SLOT} LIMIT %(cap)s
) few
"""  # noqa: S608 - built from constants


def limit_reasons(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give `concurrency_limit` and `rate_limit` of a pending task that is not handed out.

    A limit is named where it has no room now, and where it refused the task the last time.

    Args:
        row: with type, tenant_id, concurrency_key, max_concurrency and blocked_by.
    """
    with connection.cursor() as cursor:
        limits = read_limits(cursor, subjects_of(row))
    taken = limits.taken()
    for need in limits.needs(row).needs:
        used = taken.get(need.rule, 0)
        if used < need.most and need.rule != row["blocked_by"]:
            continue
        rule = Rule.read(need.rule)
        if rule.what == "rate":
            yield _rate_reason(
                rule.of, rule.name, limits.states[rule.of, rule.tenant_id, rule.name]
            )
        else:
            yield {
                "reason": "concurrency_limit",
                "key": rule.name if rule.of == "key" else None,
                "type": rule.name if rule.of == "type" else None,
                "used": used,
                "limit": need.most,
                "holders": _holders(rule, row["tenant_id"]),
            }


def queue_rate_reason(queue: str) -> Iterator[dict[str, Any]]:
    """Give `rate_limit` of a queue whose bucket is empty."""
    with connection.cursor() as cursor:
        state = read_queue_room(cursor, queue=queue).state
    if state.rate and tokens_out(state.spent, state.rate, state.now) >= state.rate.tasks:
        yield _rate_reason("queue", queue, state)


def _rate_reason(of: str, name: str, state: LimitState) -> dict[str, Any]:
    return {
        "reason": "rate_limit",
        "of": of,
        "name": name,
        "rate": str(state.rate),
        "until": _until(state) or datetime.fromtimestamp(state.now, tz=UTC),
    }


def _until(state: LimitState) -> datetime | None:
    """Give when the next task may go; None for now."""
    if state.rate is None:
        return None
    at = next_token_at(state.spent, state.rate, state.now)
    return None if at <= state.now else datetime.fromtimestamp(at, tz=UTC)


def _holders(rule: Rule, tenant_id: int) -> list[str]:
    statement = _HOLDERS_OF_KEY if rule.of == "key" else _HOLDERS_OF_TYPE
    values: dict[str, Any] = {"tenant": tenant_id, "name": rule.name, "most": HOLDERS_SHOWN}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [str(row[0]) for row in cursor.fetchall()]


def _state_of(subject: Subject) -> LimitState | None:
    with connection.cursor() as cursor:
        return read_limits(cursor, [subject]).states.get(subject)


def key_shown(*, tenant_id: int, key: str) -> dict[str, Any] | None:
    """Give a concurrency key of a tenant: who holds it, how many wait, and what is in force.

    Returns:
        None where no unfinished task has it and nothing is pinned.
    """
    state = _state_of(("key", tenant_id, key))
    rows = Limit.objects.filter(of="key", tenant_id=tenant_id, name=key)
    row = rows.exclude(concurrency=None, rate=None).first()
    values: dict[str, Any] = {"tenant": tenant_id, "name": key, "cap": COUNT_CAP}
    with connection.cursor() as cursor:
        cursor.execute(_HOLDERS_OF_KEY, values | {"most": HOLDERS_SHOWN})
        holders = rows_as_dicts(cursor)
        cursor.execute(_WAITING, values)
        waiting, largest = cursor.fetchone()
        cursor.execute(_OWN_LIMIT, values)
        own = max((one for one in (largest, *cursor.fetchone()) if one is not None), default=None)
    if state is None or (row is None and not waiting and not holders):
        return None
    return {
        "key": key,
        "limit": own if state.concurrency is None else state.concurrency,
        "concurrency": state.concurrency,
        "rate": None if state.rate is None else str(state.rate),
        "rate_until": _until(state),
        "used": state.used,
        "holders": holders,
        "waiting": waiting,
        "waiting_capped": waiting >= COUNT_CAP,
        "changed_by": row.changed_by if row else None,
        "changed_at": row.changed_at if row else None,
    }


def type_limits_shown(*, task_type: str, tenant_id: int) -> dict[str, Any]:
    """Give the limits of a task type: those in force, and what was set while the platform ran."""
    row = Limit.objects.filter(of="type", tenant=None, name=task_type).first()
    state = _state_of(("type", 0, task_type))
    if row is None or state is None:
        return dict.fromkeys(_TYPE_LIMITS) | {"used": 0}
    return {
        "concurrency": state.concurrency,
        "rate": None if state.rate is None else str(state.rate),
        "rate_until": _until(state),
        "set_concurrency": row.concurrency,
        "set_rate": row.rate,
        "used": state.used,
        "changed_by": actor_shown(row.changed_by or None, tenant_id=tenant_id),
        "changed_at": row.changed_at,
    }


_TYPE_LIMITS: Final = (
    *("concurrency", "rate", "rate_until", "set_concurrency", "set_rate", "used"),
    *("changed_by", "changed_at"),
)
