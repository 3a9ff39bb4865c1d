"""What happened to one task: events, attempts and log lines, in order, a page at a time.

Callers prove first that the task is the tenant's (`find_state`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.selectors.actors import OF_A_KEY, OF_ANOTHERS_KEY
from tasks_app.selectors.rows import decoded
from tasks_app.selectors.task_object import API_ROOT
from tasks_app.states import status_of

_EVENTS: Final = """
SELECT task_id, seq, type, from_state, state, epoch, attempt, at, actor, data FROM taskmill_event
WHERE task_id = %(id)s AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
"""
_ATTEMPTS: Final = """
SELECT attempt, worker, outcome, queued_at, started_at, finished_at, error, traceback
FROM taskmill_attempt WHERE task_id = %(id)s ORDER BY epoch LIMIT 10000
"""
_LOGS: Final = """
SELECT l.epoch, l.number, o.place, o.line, coalesce(a.attempt, t.attempt) AS attempt
FROM taskmill_log l
JOIN taskmill_task t ON t.id = l.task_id
LEFT JOIN taskmill_attempt a ON a.task_id = l.task_id AND a.epoch = l.epoch
CROSS JOIN LATERAL jsonb_array_elements(l.lines) WITH ORDINALITY AS o(line, place)
WHERE l.task_id = %(id)s AND (l.epoch, l.number) >= (%(epoch)s, %(number)s)
  AND (l.epoch, l.number, o.place) > (%(epoch)s, %(number)s, %(place)s)
  AND (%(attempt)s::int IS NULL OR coalesce(a.attempt, t.attempt) = %(attempt)s::int)
  AND (%(levels)s::text[] IS NULL OR o.line ->> 'level' = ANY(%(levels)s::text[]))
ORDER BY l.epoch, l.number, o.place LIMIT %(limit)s
"""
LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, order=True)
class LogPlace:
    """Where a log line stands: claim, chunk, line; shown as `epoch.number.place`."""

    epoch: int = 0
    number: int = 0
    place: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}.{self.number}.{self.place}"


def task_events(*, task_id: uuid.UUID, after: int, limit: int) -> list[dict[str, Any]]:
    """Give the events after a sequence number as CloudEvents, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, {"id": task_id, "after": after, "limit": limit})
        return [cloud_event(row) for row in rows_as_dicts(cursor)]


def cloud_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give the CloudEvents 1.0 envelope of an event row; `subject` is the task's id, or what else
    it is about.
    """
    is_of_task = row["task_id"] is not None
    return {
        "specversion": "1.0",
        "id": event_id(row),
        "source": f"{API_ROOT}/{_noun(row)}s",
        "type": row["type"],
        "subject": str(row["task_id"]) if is_of_task else row["subject"],
        "time": row["at"],
        "datacontenttype": "application/json",
        "sequence": row["seq"],
        "data": _event_data(row) if is_of_task else _platform_data(row),
    }


def event_id(row: Mapping[str, Any]) -> str:
    """Give the CloudEvents id of an event row: never that of another event."""
    if row["task_id"] is None:
        return f"{_noun(row)}.{row['id']}"
    return f"{row['task_id']}.{row['seq']}"


def _noun(row: Mapping[str, Any]) -> str:
    """Give what kind of thing an event is about: task, queue, worker or schedule."""
    noun: str = row["type"].partition(".")[0]
    return noun


def _platform_data(row: Mapping[str, Any]) -> dict[str, Any]:
    """Say what happened. What is of no tenant is told to all, encoded once: it names no key."""
    actor = row["actor"]
    if row["tenant_id"] is None and actor.startswith(OF_A_KEY):
        actor = OF_ANOTHERS_KEY
    return {"actor": actor, **decoded(row["data"])}


def _event_data(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "from_state": row["from_state"],
        "state": row["state"],
        "status": status_of(row["state"]).value,
        "attempt": row["attempt"],
        "actor": row["actor"],
    }
    details = decoded(row["data"]) or {}
    if "code" in details:
        return shown | {"error": details}
    if row["type"] == "task.updated":
        return shown | {"changes": details}
    return shown | details


def task_attempts(*, task_id: uuid.UUID, with_traceback: bool) -> list[dict[str, Any]]:
    """Give the ended runs of a task, oldest first.

    Args:
        with_traceback: for operators alone (scope `tasks:admin`).
    """
    with connection.cursor() as cursor:
        cursor.execute(_ATTEMPTS, {"id": task_id})
        rows = rows_as_dicts(cursor)
    for row in rows:
        row["error"] = decoded(row["error"])
        if not with_traceback:
            del row["traceback"]
    return rows


def task_logs(
    *,
    task_id: uuid.UUID,
    after: LogPlace,
    limit: int,
    attempt: int | None = None,
    level: str | None = None,
) -> list[dict[str, Any]]:
    """Give the log lines after a place, oldest first: `{id, attempt, at, level, message, fields}`.

    Args:
        level: the least level wanted, or None for all.
    """
    levels = None if level is None else list(LEVELS[LEVELS.index(level) :])
    values: dict[str, Any] = {"id": task_id, "limit": limit, "attempt": attempt}
    values["levels"] = levels
    place = {"epoch": after.epoch, "number": after.number, "place": after.place}
    with connection.cursor() as cursor:
        cursor.execute(_LOGS, values | place)
        rows = cursor.fetchall()
    return [
        {"id": str(LogPlace(epoch, number, place_)), "attempt": run} | decoded(line)
        for epoch, number, place_, line, run in rows
    ]
