"""Fires what is due: each instant gets its row and its task in one transaction.

The unique constraint of `taskmill_firing` is what makes a second firing of an instant impossible;
the lock of the schedule's row only keeps beats from doing the same work.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from django.db import connection, transaction

from scheduler.conf import SchedulerConf
from scheduler.decisions import Outcome, Overlap, Verdict, decide_overlap
from scheduler.errors import InvalidRule
from scheduler.loading import Loaded, load
from scheduler.models import Status
from scheduler.ticking.events import MISSED, RETURNING
from scheduler.ticking.planning import Plan, make_plan
from scheduler.ticking.starting import (
    Start,
    Started,
    cancel_previous,
    start_tasks,
    unfinished_tasks,
)
from tasks_app.db import Cursor
from tasks_app.telemetry import logger

log = logger(__name__)

_IN_TIME: Final = """
WHERE s.next_at <= taskmill_now() AND s.next_at > taskmill_now() - make_interval(secs => %(grace)s)
ORDER BY s.next_at LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
"""

_LATE: Final = """
WHERE s.next_at <= taskmill_now() - make_interval(secs => %(grace)s)
ORDER BY s.next_at LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
"""

_WAITING: Final = """
SELECT schedule_id, count(*) FROM taskmill_firing
WHERE outcome = 'waiting' AND schedule_id = ANY(%(ids)s) GROUP BY schedule_id
"""

_RECORD: Final = f"""
WITH changed AS (INSERT INTO taskmill_firing AS f
    (schedule_id, nominal_at, covers_until, outcome, reason, is_manual, actor, task_state, is_open,
     recorded_at, tries)
SELECT r.schedule_id, r.nominal_at, r.covers_until, r.outcome, r.reason, false, '', '', false,
     taskmill_now(), 0
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    schedule_id uuid, nominal_at timestamptz, covers_until timestamptz, outcome text, reason text)
ON CONFLICT (schedule_id, nominal_at) DO NOTHING
RETURNING f.id, {RETURNING}
), {MISSED}
SELECT id, schedule_id, nominal_at FROM changed
"""  # noqa: S608 - built from constants

_ADVANCE: Final = """
UPDATE taskmill_schedule s SET
    next_nominal_at = r.next_nominal_at, next_at = r.next_at, status = r.status,
    status_reason = r.status_reason,
    status_at = CASE WHEN s.status = r.status THEN s.status_at ELSE taskmill_now() END,
    last_nominal_at = coalesce(r.last_nominal_at, s.last_nominal_at),
    last_outcome = coalesce(r.last_outcome, s.last_outcome),
    last_task_id = coalesce(r.task_id, s.last_task_id),
    last_fired_at = CASE WHEN r.fired > 0 THEN taskmill_now() ELSE s.last_fired_at END,
    fired_count = s.fired_count + r.fired, skipped_count = s.skipped_count + r.skipped,
    missed_count = s.missed_count + r.missed,
    failures_in_row = s.failures_in_row + r.refused, updated_at = taskmill_now()
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    id uuid, next_nominal_at timestamptz, next_at timestamptz, status text, status_reason text,
    last_nominal_at timestamptz, last_outcome text, task_id uuid, fired int, skipped int,
    missed int, refused int)
WHERE s.id = r.id
"""

_RAN: Final = """
UPDATE django_celery_beat_periodictask p SET
    last_run_at = CASE WHEN r.fired > 0 THEN taskmill_now() ELSE p.last_run_at END,
    total_run_count = p.total_run_count + r.fired, enabled = p.enabled AND NOT r.is_over
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(task_row int, fired int, is_over boolean)
WHERE p.id = r.task_row
"""


@dataclass(slots=True, kw_only=True)
class Decided:
    """A plan with its final verdicts, and what came of them."""

    plan: Plan
    verdicts: list[Verdict]
    status: str
    status_reason: str
    fired: int = 0
    refused: int = 0
    task_id: uuid.UUID | None = None
    recorded: list[Verdict] = field(default_factory=list)

    @property
    def one(self) -> Loaded:
        """The schedule."""
        return self.plan.one

    def count(self, *outcomes: Outcome) -> int:
        """Give how many recorded instants have one of these outcomes."""
        return sum(1 for verdict in self.recorded if verdict.outcome in outcomes)


def fire_in_time(conf: SchedulerConf) -> int:
    """Fire at most a batch of the schedules due within the grace; gives how many.

    A bounded number of statements, whatever the number of schedules (and one or two more for each
    task that `cancel_previous` asks to stop).

    Concurrency: any number of beats; schedules that another one holds are left to it.
    """
    return _fire(_IN_TIME, conf)


def make_up(conf: SchedulerConf) -> int:
    """Do the same for schedules that are later than the grace, the oldest first.

    A portion of what an outage left, so that the present never waits for all of it; repeat it.
    """
    return _fire(_LATE, conf)


def _fire(where: str, conf: SchedulerConf) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        due = load(cursor, where, {"limit": conf.batch, "grace": conf.grace_seconds})
        if not due:
            return 0
        decided = _decide(cursor, _plans(due, conf))
        starts = _record(cursor, decided)
        _cancel(cursor, decided)
        _note(decided, start_tasks(cursor, starts))
        rows = [_advance(one) for one in decided]
        cursor.execute(_ADVANCE, {"rows": orjson.dumps(rows).decode()})
        ran = [row for one in decided if (row := _ran(one)) is not None]
        if ran:
            cursor.execute(_RAN, {"rows": orjson.dumps(ran).decode()})
    _tell(decided)
    return len(decided)


def _plans(due: Sequence[Loaded], conf: SchedulerConf) -> list[Plan]:
    """Plan until so many instants are to be recorded; schedules beyond them stay due.

    After an outage that number bounds the transaction, for which edits and heartbeats wait.
    """
    plans: list[Plan] = []
    room = conf.instants_most
    for one in due:
        if room <= 0:
            break
        plans.append(_plan(one, conf))
        room -= len(plans[-1].verdicts)
    return plans


def _plan(one: Loaded, conf: SchedulerConf) -> Plan:
    try:
        return make_plan(one, conf)
    except InvalidRule as error:
        one.row.update(status=Status.BROKEN.value, status_reason=error.detail[:500])
        return Plan(one=one, verdicts=[], next_nominal_at=None)


def _decide(cursor: Cursor, plans: Sequence[Plan]) -> list[Decided]:
    ids = [plan.one.id for plan in plans if plan.one.overlap is not Overlap.ALLOW]
    live = unfinished_tasks(cursor, ids)
    waiting: dict[uuid.UUID, int] = {}
    if ids:
        cursor.execute(_WAITING, {"ids": ids})
        waiting = dict(cursor.fetchall())
    return [_decided(plan, len(live.get(plan.one.id, ())), waiting) for plan in plans]


def _decided(plan: Plan, live: int, waiting: dict[uuid.UUID, int]) -> Decided:
    one = plan.one
    verdicts = decide_overlap(
        plan.verdicts, policy=one.overlap, live=live, waiting=waiting.get(one.id, 0)
    )
    if one.is_celery:
        verdicts = [_to_publish(verdict) for verdict in verdicts]
    status, reason = str(one.row["status"]), one.row["status_reason"]
    went = any(v.outcome in {Outcome.FIRED, Outcome.PUBLISHING} for v in verdicts)
    is_over = plan.next_nominal_at is None or (one.row["one_off"] and went)
    if is_over and status != Status.BROKEN:
        status = Status.ENDED.value
        reason = "it was due once" if went else "nothing is due any more"
        plan = Plan(one=one, verdicts=plan.verdicts, next_nominal_at=None)
    return Decided(plan=plan, verdicts=verdicts, status=status, status_reason=reason)


def _to_publish(verdict: Verdict) -> Verdict:
    if verdict.outcome is not Outcome.FIRED:
        return verdict
    return Verdict(nominal_at=verdict.nominal_at, outcome=Outcome.PUBLISHING)


def _record(cursor: Cursor, decided: Sequence[Decided]) -> list[Start]:
    """Insert the firings; what another beat recorded already is not fired again."""
    rows = [
        {
            "schedule_id": one.one.id,
            "nominal_at": verdict.nominal_at,
            "covers_until": verdict.covers_until,
            "outcome": verdict.outcome.value,
            "reason": verdict.reason[:500],
        }
        for one in decided
        for verdict in one.verdicts
    ]
    cursor.execute(_RECORD, {"rows": orjson.dumps(rows).decode()})
    new = {(row[1], row[2]): row[0] for row in cursor.fetchall()}
    starts = []
    for one in decided:
        for verdict in one.verdicts:
            firing_id = new.get((one.one.id, verdict.nominal_at))
            if firing_id is None:
                continue
            one.recorded.append(verdict)
            if verdict.outcome is Outcome.FIRED:
                starts.append(
                    Start(firing_id=firing_id, one=one.one, nominal_at=verdict.nominal_at)
                )
    return starts


def _cancel(cursor: Cursor, decided: Sequence[Decided]) -> None:
    firing = [
        one
        for one in decided
        if one.one.overlap is Overlap.CANCEL_PREVIOUS and one.count(Outcome.FIRED)
    ]
    live = unfinished_tasks(cursor, [one.one.id for one in firing])
    for one in firing:
        cancel_previous(one.one, live.get(one.one.id, ()))


def _note(decided: Sequence[Decided], started: Sequence[Started]) -> None:
    by_id = {one.one.id: one for one in decided}
    for found in started:
        one = by_id[found.start.one.id]
        if found.task_id is None:
            one.refused += 1
        else:
            one.fired += 1
            one.task_id = found.task_id


def _advance(one: Decided) -> dict[str, Any]:
    last = one.recorded[-1] if one.recorded else None
    return {
        "id": one.one.id,
        "next_nominal_at": one.plan.next_nominal_at,
        "next_at": one.plan.next_at,
        "status": one.status,
        "status_reason": one.status_reason,
        "last_nominal_at": None if last is None else last.nominal_at,
        "last_outcome": _last_outcome(one, last),
        "task_id": one.task_id,
        "fired": one.fired,
        "skipped": one.count(Outcome.SKIPPED) + one.refused,
        "missed": one.count(Outcome.MISSED),
        "refused": one.refused,
    }


def _last_outcome(one: Decided, last: Verdict | None) -> str | None:
    if last is None:
        return None
    is_refused = last.outcome is Outcome.FIRED and not one.fired
    return Outcome.SKIPPED.value if is_refused else last.outcome.value


def _ran(one: Decided) -> dict[str, Any] | None:
    """Give what the periodic task's own columns are to say; those of Celery wait for the broker."""
    is_over = one.status == Status.ENDED
    if not one.fired and not is_over:
        return None
    return {"task_row": one.one.row["task_row"], "fired": one.fired, "is_over": is_over}


def _tell(decided: Sequence[Decided]) -> None:
    for one in decided:
        names = {"schedule": one.one.row["key"], "tenant": one.one.row["tenant_id"]}
        if one.fired:
            late = (one.one.now - one.recorded[-1].nominal_at).total_seconds()
            log.info("schedule.fired", **names, tasks=one.fired, late_seconds=round(late, 3))
        if missed := one.count(Outcome.MISSED):
            log.warning("schedule.missed", **names, instants=missed)
