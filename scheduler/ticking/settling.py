"""Looks after fired tasks: closes the firings of finished ones, pauses schedules whose tasks keep
failing, and starts what waits for the task before it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from django.db import connection, transaction

from scheduler.decisions import Outcome
from scheduler.loading import Loaded, load
from scheduler.models import Status
from scheduler.ticking.events import MISSED, RETURNING
from scheduler.ticking.starting import Start, start_tasks, unfinished_tasks
from tasks_app.db import Cursor
from tasks_app.platform import task_states
from tasks_app.telemetry import logger

log = logger(__name__)

BATCH: Final = 2000
FAILURES: Final = frozenset({"failed", "error", "timeout"})
PURGED: Final = "purged"

_OPEN: Final = """
SELECT id, schedule_id, task_id FROM taskmill_firing
WHERE is_open AND task_id IS NOT NULL AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""

_LOCKED: Final = """
WHERE s.id = ANY(%(ids)s) ORDER BY s.id FOR UPDATE OF s SKIP LOCKED
"""

_CLOSE: Final = """
UPDATE taskmill_firing f SET is_open = false, task_state = r.state
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id bigint, state text)
WHERE f.id = r.id AND f.is_open RETURNING f.id
"""

_COUNT: Final = """
UPDATE taskmill_schedule s SET
    failures_in_row = r.failures, status = r.status, status_reason = r.reason,
    status_by = CASE WHEN s.status = r.status THEN s.status_by ELSE 'scheduler' END,
    status_at = CASE WHEN s.status = r.status THEN s.status_at ELSE taskmill_now() END,
    updated_at = taskmill_now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, failures int, status text, reason text)
WHERE s.id = r.id
"""

_DISABLE: Final = """
UPDATE django_celery_beat_periodictask SET enabled = false WHERE id = ANY(%(ids)s)
"""

_WAITING: Final = """
SELECT id, schedule_id, nominal_at FROM taskmill_firing
WHERE outcome = 'waiting' ORDER BY nominal_at LIMIT %(limit)s
"""

_STILL_WAITING: Final = """
SELECT id FROM taskmill_firing WHERE id = ANY(%(ids)s) AND outcome = 'waiting'
"""

_GIVE_UP: Final = f"""
WITH changed AS (UPDATE taskmill_firing f SET outcome = r.outcome, reason = r.reason
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id bigint, outcome text, reason text)
WHERE f.id = r.id RETURNING {RETURNING}
), {MISSED}
SELECT count(*) FROM changed
"""  # noqa: S608 - built from constants

_STARTED_LATER: Final = """
UPDATE taskmill_schedule s SET last_task_id = r.task_id, last_fired_at = taskmill_now(),
    last_outcome = 'fired', fired_count = s.fired_count + 1, updated_at = taskmill_now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(id uuid, task_id uuid)
WHERE s.id = r.id
"""

_RAN: Final = """
UPDATE django_celery_beat_periodictask SET last_run_at = taskmill_now(),
    total_run_count = total_run_count + 1 WHERE id = ANY(%(ids)s)
"""


class Settler:
    """Walks through the open firings, a batch each time, and begins anew at the end."""

    def __init__(self) -> None:
        self._after = 0

    def run_once(self) -> int:
        """Close the firings of finished tasks; gives how many were closed."""
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_OPEN, {"after": self._after, "limit": BATCH})
            rows = cursor.fetchall()
            self._after = rows[-1][0] if len(rows) == BATCH else 0
            states = task_states([task_id for _, _, task_id in rows])
            over = [
                (firing_id, schedule_id, *states.get(task_id, (PURGED, True)))
                for firing_id, schedule_id, task_id in rows
            ]
            over = [row for row in over if row[3] is not None]
            return _close(cursor, over) if over else 0


def _close(cursor: Cursor, over: Sequence[tuple[Any, ...]]) -> int:
    ids = list({row[1] for row in over})
    held = {one.id: one for one in load(cursor, _LOCKED, {"ids": ids})}
    rows = [{"id": row[0], "state": row[2]} for row in over if row[1] in held]
    cursor.execute(_CLOSE, {"rows": orjson.dumps(rows).decode()})
    closed = {row[0] for row in cursor.fetchall()}
    ended = [row for row in over if row[0] in closed]
    ended.sort(key=lambda row: (0.0 if row[3] is True else row[3].timestamp(), row[0]))
    by_schedule: dict[uuid.UUID, list[str]] = {}
    for _, schedule_id, state, _ in ended:
        by_schedule.setdefault(schedule_id, []).append(state)
    counted = [_counted(held[key], states) for key, states in by_schedule.items()]
    cursor.execute(_COUNT, {"rows": orjson.dumps(counted).decode()})
    paused = [held[row["id"]] for row in counted if _is_paused_by(row, held)]
    if paused:
        cursor.execute(_DISABLE, {"ids": [one.row["task_row"] for one in paused]})
    for one in paused:
        log.warning("schedule.paused", schedule=one.row["key"], tenant=one.row["tenant_id"])
    return len(closed)


def _counted(one: Loaded, states: Sequence[str]) -> dict[str, Any]:
    failures = one.row["failures_in_row"]
    for state in states:
        failures = failures + 1 if state in FAILURES else 0 if state == "success" else failures
    status, reason = str(one.row["status"]), one.row["status_reason"]
    most = one.row["pause_after_failures"]
    if most is not None and failures >= most and status == Status.ACTIVE:
        status, reason = Status.PAUSED.value, f"{failures} of its tasks failed in a row"
    return {"id": one.id, "failures": failures, "status": status, "reason": reason}


def _is_paused_by(row: Mapping[str, Any], held: Mapping[uuid.UUID, Loaded]) -> bool:
    return bool(row["status"] == Status.PAUSED and held[row["id"]].row["status"] != Status.PAUSED)


def start_waiting() -> int:
    """Start the instants whose task before them has finished; gives how many were decided."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_WAITING, {"limit": BATCH})
        waiting = {row[0]: row for row in cursor.fetchall()}
        if not waiting:
            return 0
        ids = list({row[1] for row in waiting.values()})
        held = {one.id: one for one in load(cursor, _LOCKED, {"ids": ids})}
        cursor.execute(_STILL_WAITING, {"ids": list(waiting)})
        mine = [waiting[row[0]] for row in cursor.fetchall() if waiting[row[0]][1] in held]
        live = unfinished_tasks(cursor, list(held))
        given_up = [row for row in (_given_up(held[one[1]], *one) for one in mine) if row]
        if given_up:
            cursor.execute(_GIVE_UP, {"rows": orjson.dumps(given_up).decode()})
        out = {row["id"] for row in given_up}
        ready = [one for one in mine if one[0] not in out and not live.get(one[1])]
        starts = [Start(firing_id=one[0], one=held[one[1]], nominal_at=one[2]) for one in ready]
        started = [one for one in start_tasks(cursor, starts) if one.task_id is not None]
        rows = [{"id": one.start.one.id, "task_id": one.task_id} for one in started]
        cursor.execute(_STARTED_LATER, {"rows": orjson.dumps(rows).decode()})
        cursor.execute(_RAN, {"ids": [one.start.one.row["task_row"] for one in started]})
        return len(starts) + len(given_up)


def _given_up(
    one: Loaded, firing_id: int, _schedule_id: uuid.UUID, nominal_at: Any
) -> dict[str, Any] | None:
    if one.row["status"] not in {Status.ACTIVE, Status.ENDED}:
        reason = f"{one.row['status']}: {one.row['status_reason']}"[:500]
        return {"id": firing_id, "outcome": Outcome.SKIPPED.value, "reason": reason}
    late = (one.now - nominal_at).total_seconds()
    if one.row["expire_seconds"] is not None and late > one.row["expire_seconds"]:
        reason = f"expired: {late:.0f} s late"
        return {"id": firing_id, "outcome": Outcome.MISSED.value, "reason": reason}
    return None
