"""Takes over what somebody changed in django-celery-beat's tables, by whatever way.

Triggers note each changed periodic task; a new one gets its schedule row, a changed timing its next
instant. Nothing else is read, however many schedules there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from django.db import connection, transaction

from scheduler.errors import InvalidRule
from scheduler.loading import Loaded, load_task_rows
from scheduler.models import Kind, Origin, Status, new_schedule_id
from tasks_app.db import Cursor
from tasks_app.errors import NotFound
from tasks_app.platform import is_task_type, tenant_id_of
from tasks_app.telemetry import logger

log = logger(__name__)

BATCH: Final = 500
TENANT_OF_TABLES: Final = "default"
DISABLED: Final = "disabled in django-celery-beat's table"
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)

_TAKE: Final = """
SELECT periodic_task_id, changed_at FROM taskmill_schedule_change
ORDER BY changed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

_LOCK: Final = """
SELECT periodic_task_id FROM taskmill_schedule
WHERE periodic_task_id = ANY(%(ids)s) ORDER BY id FOR UPDATE SKIP LOCKED
"""

_ADOPT: Final = """
INSERT INTO taskmill_schedule
    (id, periodic_task_id, tenant_id, key, kind, origin, options, overlap, catch_up, catch_up_most,
     spread, spread_seconds, status, status_reason, status_by, timing, anchor_at, last_outcome,
     fired_count, skipped_count, missed_count, failures_in_row, created_at, created_by, updated_at)
SELECT r.id, r.task_row, r.tenant_id, r.key, r.kind, 'tables', '{}', 'allow', 'last', 10,
     'none', 0, 'active', '', '', '', r.anchor_at, '', 0, 0, 0, 0,
     taskmill_now(), 'django-celery-beat', taskmill_now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id uuid, task_row int, tenant_id bigint, key text, kind text, anchor_at timestamptz)
ON CONFLICT DO NOTHING
RETURNING periodic_task_id
"""

_RENEW: Final = """
UPDATE taskmill_schedule s SET
    kind = r.kind, timing = r.timing, anchor_at = r.anchor_at, status = r.status,
    status_reason = r.status_reason, status_by = r.status_by,
    status_at = CASE WHEN s.status = r.status THEN s.status_at ELSE taskmill_now() END,
    next_nominal_at = r.next_nominal_at, next_at = r.next_at, updated_at = taskmill_now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id uuid, kind text, timing text, anchor_at timestamptz, status text, status_reason text,
    status_by text, next_nominal_at timestamptz, next_at timestamptz)
WHERE s.id = r.id
"""

_DROP: Final = "DELETE FROM taskmill_schedule_change WHERE periodic_task_id = ANY(%(ids)s)"


def take_over_changes() -> int:
    """Take over at most `BATCH` changes and say how many there were.

    Concurrency: rows that somebody holds are left for the next tick.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_TAKE, {"limit": BATCH})
        changed = dict(cursor.fetchall())
        if not changed:
            return 0
        cursor.execute(_LOCK, {"ids": list(changed)})
        held = {row[0] for row in cursor.fetchall()}
        found = {one.row["task_row"]: one for one in load_task_rows(cursor, list(changed))}
        held |= _adopt(cursor, [one for one in found.values() if one.row["id"] is None])
        again = [number for number in held if found.get(number) and found[number].id is None]
        found |= {one.row["task_row"]: one for one in load_task_rows(cursor, again)}
        _write(
            cursor, [renew(found[number], changed[number]) for number in held if number in found]
        )
        done = [number for number in changed if number in held or number not in found]
        cursor.execute(_DROP, {"ids": done})
        return len(done)


def renew_one(cursor: Cursor, task_row: int) -> None:
    """Take over a change of a periodic task at once.

    Concurrency: the caller holds the schedule's row.
    """
    _write(cursor, [renew(one, one.now) for one in load_task_rows(cursor, [task_row])])


def _write(cursor: Cursor, renewed: Sequence[Mapping[str, Any]]) -> None:
    cursor.execute(_RENEW, {"rows": orjson.dumps(list(renewed)).decode()})


def _adopt(cursor: Cursor, unknown: Sequence[Loaded]) -> set[int]:
    rows = [_adopted(one.row) for one in unknown]
    if not rows:
        return set()
    cursor.execute(_ADOPT, {"rows": orjson.dumps(rows).decode()})
    return {row[0] for row in cursor.fetchall()}


def _adopted(row: Mapping[str, Any]) -> dict[str, Any]:
    kind, tenant_id = Kind.CELERY, None
    if is_task_type(row["task"]):
        try:
            tenant_id = tenant_id_of(TENANT_OF_TABLES)
            kind = Kind.TASKMILL
        except NotFound:
            log.warning("no tenant for a schedule of the tables", schedule=row["name"])
    return {
        "id": new_schedule_id(),
        "task_row": row["task_row"],
        "tenant_id": tenant_id,
        "key": row["name"][:100] if tenant_id else row["name"],
        "kind": kind.value,
        "anchor_at": min(row["last_run_at"] or row["date_changed"], row["now"]),
    }


def renew(one: Loaded, changed_at: datetime) -> dict[str, Any]:
    """Give a schedule's columns after a change of its periodic task.

    An instant of the old timing that was due before the change stays due. So that the new timing
    does not wait until everything older is made up for, the schedule is looked at next.

    Args:
        changed_at: when it was changed: a new timing is in force from then on.
    """
    row = one.row
    timing = one.timing_text()
    is_new, is_first = timing != row["timing"], not row["timing"]
    if is_new and not is_first:
        row["anchor_at"] = changed_at
    _decide_status(row)
    following = None
    known = row["next_at"]
    is_pending = known is not None and known <= changed_at
    if one.is_on_clock:
        try:
            following = _next_of(one, changed_at, keep=is_pending or not is_new)
        except InvalidRule as error:
            row |= {"status": Status.BROKEN, "status_reason": error.detail[:500], "status_by": ""}
        else:
            if following is None:
                row |= {"status": Status.ENDED, "status_reason": "nothing is due any more"}
    return {
        "id": one.id,
        "kind": row["kind"],
        "timing": timing,
        "anchor_at": row["anchor_at"],
        "status": str(row["status"]),
        "status_reason": row["status_reason"],
        "status_by": row.get("status_by") or "",
        "next_nominal_at": following,
        "next_at": _look_at(one, following, (one.now if is_new else known) if is_pending else None),
    }


def _look_at(one: Loaded, following: datetime | None, earliest: datetime | None) -> datetime | None:
    if following is None:
        return None
    at = following + one.lag(following)
    return at if earliest is None else max(at, earliest)


def _next_of(one: Loaded, changed_at: datetime, *, keep: bool) -> datetime | None:
    timetable = one.timetable()
    known: datetime | None = one.row["next_nominal_at"]
    if keep and known is not None:
        return known if timetable.end is None or known < timetable.end else None
    if one.row["clocked_time"] is not None:
        return timetable.next(one.row["last_nominal_at"] or _LONG_AGO)
    return timetable.next(one.row["anchor_at"] if not one.row["timing"] else changed_at)


def _decide_status(row: dict[str, Any]) -> None:
    """Follow the switch of the periodic task, and what it starts."""
    if row["origin"] == Origin.TABLES and row["tenant_id"] is not None:
        row["kind"] = (Kind.TASKMILL if is_task_type(row["task"]) else Kind.CELERY).value
    if row["enabled"]:
        if row["status"] != Status.ACTIVE:
            row |= {"status": Status.ACTIVE, "status_reason": "", "status_by": ""}
            row["next_nominal_at"] = row["next_at"] = None
    elif row["status"] in {Status.ACTIVE, Status.BROKEN}:
        row |= {"status": Status.PAUSED, "status_reason": DISABLED, "status_by": ""}
