"""What is done to a schedule beside defining it: pause, resume, run now.

`pause_schedule`, `resume_schedule` and `run_now` act for a `Caller` and reach the schedules of its
tenant; those with `any` in their names act for operators and reach every one, plain Celery tasks
too. One transaction each.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Final

from django.db import connection, transaction
from django.db.models import QuerySet

from scheduler.decisions import Outcome
from scheduler.errors import ScheduleNotFound, ScheduleOver
from scheduler.loading import Loaded, load_task_rows
from scheduler.models import Firing, Kind, Schedule, Status
from scheduler.ticking.events import TELL_FIRED
from scheduler.ticking.starting import wanted_task
from scheduler.writing import database_now, put_aside, set_switch
from tasks_app.errors import RequestError
from tasks_app.platform import Caller, submit_scheduled

INSTANT: Final = timedelta(microseconds=1)
"""What the database tells two instants apart by."""

_OVER: Final = frozenset({Status.ENDED, Status.RETIRED})


def pause_schedule(*, caller: Caller, schedule_id: uuid.UUID, reason: str = "") -> Schedule:
    """Stop firing; its instants are recorded as skipped. Repeating it changes the reason.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
        ScheduleOver: it does not fire any more.
    """
    with transaction.atomic():
        return _pause(held_schedule(caller, schedule_id), reason, caller.actor)


def resume_schedule(*, caller: Caller, schedule_id: uuid.UUID) -> Schedule:
    """Fire again from the next instant on; failures are counted anew.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
        ScheduleOver: there is nothing to fire any more.
    """
    with transaction.atomic():
        return _resume(held_schedule(caller, schedule_id), caller.actor)


def run_now(*, caller: Caller, schedule_id: uuid.UUID) -> uuid.UUID:
    """Start its task at once, beside the rule and whatever its overlap policy says.

    Returns:
        The task's id.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
        UnknownTaskType, ValidationFailed, DuplicateTask: its task is refused.
    """
    with transaction.atomic():
        return _start(held_schedule(caller, schedule_id), caller.actor)


def pause_any(*, schedule_id: uuid.UUID, actor: str, reason: str = "") -> Schedule:
    """Pause a schedule of whatever tenant; see `pause_schedule`."""
    with transaction.atomic():
        return _pause(_held_any(schedule_id), reason, actor)


def resume_any(*, schedule_id: uuid.UUID, actor: str) -> Schedule:
    """Resume a schedule of whatever tenant; see `resume_schedule`."""
    with transaction.atomic():
        return _resume(_held_any(schedule_id), actor)


def run_any(*, schedule_id: uuid.UUID, actor: str) -> uuid.UUID | None:
    """Run a schedule of whatever tenant now; see `run_now`.

    Returns:
        The task's id; None for a plain Celery task, which a beat publishes at its next tick.
    """
    with transaction.atomic():
        found = _held_any(schedule_id)
        if found.kind != Kind.CELERY:
            return _start(found, actor)
        _record(found, Outcome.PUBLISHING, actor)
        return None


def held_schedule(caller: Caller, schedule_id: uuid.UUID) -> Schedule:
    """Lock a schedule's row until the end of the caller's transaction.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
    """
    found = _locked().filter(tenant_id=caller.tenant_id, id=schedule_id).first()
    if found is None:
        raise ScheduleNotFound
    return found


def loaded_schedule(found: Schedule) -> Loaded:
    """Read a schedule with its timing."""
    with connection.cursor() as cursor:
        return load_task_rows(cursor, [found.periodic_task_id])[0]


def _held_any(schedule_id: uuid.UUID) -> Schedule:
    found = _locked().filter(id=schedule_id).first()
    if found is None:
        raise ScheduleNotFound
    return found


def _locked() -> QuerySet[Schedule]:
    return Schedule.objects.select_for_update(of=("self",)).select_related(
        "periodic_task__crontab",
        "periodic_task__interval",
        "periodic_task__clocked",
        "periodic_task__solar",
    )


def _pause(found: Schedule, reason: str, actor: str) -> Schedule:
    if found.status in _OVER:
        raise ScheduleOver(schedule=found.key)
    put_aside(found, Status.PAUSED, reason=reason, actor=actor)
    return found


def _resume(found: Schedule, actor: str) -> Schedule:
    if found.status in _OVER:
        raise ScheduleOver(schedule=found.key)
    if found.status == Status.ACTIVE:
        return found
    pending, reason = found.next_nominal_at, found.status_reason
    found.failures_in_row = 0
    found.status_by = actor[:120]
    found.save(update_fields=["failures_in_row", "status_by"])
    set_switch(found, is_on=True)
    now = database_now()
    if pending is not None and pending <= now:
        Firing.objects.get_or_create(
            schedule=found,
            nominal_at=pending,
            defaults={
                "covers_until": found.next_nominal_at,
                "outcome": Outcome.SKIPPED,
                "reason": f"paused: {reason}"[:500] if reason else "paused",
                "recorded_at": now,
            },
        )
    return found


def _start(found: Schedule, actor: str) -> uuid.UUID:
    [answer] = submit_scheduled([wanted_task(loaded_schedule(found), database_now())])
    if isinstance(answer, RequestError):
        raise answer
    firing = _record(found, Outcome.FIRED, actor, task_id=answer)
    with connection.cursor() as cursor:
        cursor.execute(TELL_FIRED, {"id": firing.id})
    found.last_task_id, found.last_fired_at = answer, firing.fired_at
    found.last_outcome, found.fired_count = Outcome.FIRED.value, found.fired_count + 1
    found.save(update_fields=["last_task_id", "last_fired_at", "last_outcome", "fired_count"])
    return answer


def _record(
    found: Schedule, outcome: Outcome, actor: str, *, task_id: uuid.UUID | None = None
) -> Firing:
    now = database_now()
    return Firing.objects.create(
        schedule=found,
        nominal_at=_free_instant(found, now),
        outcome=outcome,
        is_manual=True,
        actor=actor[:120],
        task_id=task_id,
        is_open=task_id is not None,
        recorded_at=now,
        fired_at=None if task_id is None else now,
    )


def _free_instant(found: Schedule, at: datetime) -> datetime:
    """Give the next instant that is no firing's, nor one of a cron rule, which are full seconds.

    Concurrency: the caller holds the schedule's row, so nobody takes it meanwhile.
    """
    if not at.microsecond:
        at += INSTANT
    while Firing.objects.filter(schedule=found, nominal_at=at).exists():
        at += INSTANT
    return at
