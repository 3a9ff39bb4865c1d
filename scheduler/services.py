"""Use cases that define schedules, one transaction each; `scheduler.operating` has the others.

Every function takes a `Caller`; ids of other tenants raise `ScheduleNotFound`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.db import transaction

from scheduler.errors import InvalidRule, ScheduleNotFound, ScheduleReadOnly
from scheduler.models import Origin, Schedule, Status
from scheduler.operating import held_schedule, loaded_schedule
from scheduler.rules import IntervalRule, Timetable
from scheduler.writing import (
    Policies,
    Solar,
    Timing,
    Wanted,
    change_schedule,
    check_policies,
    check_timing,
    database_now,
    insert_schedule,
    tenant_slug,
)
from tasks_app.platform import Caller, ScheduledSubmission, check_scheduled

MAX_KEY_LENGTH: Final = 100
MAX_PREVIEW: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """An instant to come.

    Attributes:
        at: when it is due by the rule (aware UTC).
        note: what a jump of the clocks does to it; empty for nothing.
    """

    at: datetime
    note: str = ""


def create_schedule(*, caller: Caller, wanted: Wanted) -> Schedule:
    """Add a schedule; its first instant is found at once.

    Raises:
        InvalidRule: timing, policies or key are wrong; `errors` says which.
        ScheduleExists: the key is taken.
        UnknownTaskType, ValidationFailed, PayloadTooLarge: its tasks would be refused.
    """
    _check(caller, wanted, first=True)
    with transaction.atomic():
        return insert_schedule(
            wanted,
            tenant_id=caller.tenant_id,
            tenant=tenant_slug(caller.tenant_id),
            origin=Origin.API,
            actor=caller.actor,
        )


def update_schedule(
    *, caller: Caller, schedule_id: uuid.UUID, changes: Mapping[str, Any]
) -> Schedule:
    """Change a schedule; a new timing is in force at once.

    Args:
        changes: fields of `Wanted` but the key; what is left out stays.

    Raises:
        ScheduleReadOnly: it is declared in code.
        ScheduleNotFound, InvalidRule and the errors of submissions: as `create_schedule`.
    """
    with transaction.atomic():
        found = held_schedule(caller, schedule_id)
        if found.origin == Origin.CODE:
            raise ScheduleReadOnly(schedule=found.key)
        known = wanted_of(found)
        wanted = replace(known, **dict(changes))
        _check(caller, wanted, first=wanted.timing != known.timing)
        change_schedule(found, wanted)
        return found


def delete_schedule(*, caller: Caller, schedule_id: uuid.UUID) -> None:
    """Delete a schedule with its firings; its tasks stay.

    Raises:
        ScheduleReadOnly: it is declared in code, and still stands there.
        ScheduleNotFound: no such schedule of this tenant.
    """
    with transaction.atomic():
        found = held_schedule(caller, schedule_id)
        if found.origin == Origin.CODE and found.status != Status.RETIRED:
            raise ScheduleReadOnly(schedule=found.key)
        found.periodic_task.delete()


def preview_timing(
    *, timing: Timing, count: int = 5, after: datetime | None = None
) -> list[Upcoming]:
    """Give the next instants of a timing that need not be stored.

    Args:
        count: 1 to 100.
        after: aware; now where left out.

    Raises:
        InvalidRule: it is not understood.
    """
    timetable = check_timing(timing)
    now = after or database_now()
    if isinstance(timetable.rule, IntervalRule) and timing.start_at is None:
        rule = IntervalRule(every=timetable.rule.every, anchor=now)
        timetable = Timetable(rule=rule, end=timing.end_at)
    return _upcoming(timetable, now, count)


def preview_schedule(*, caller: Caller, schedule_id: uuid.UUID, count: int = 5) -> list[Upcoming]:
    """Give the next instants of a schedule, paused or not.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
        InvalidRule: somebody stored a timing that is not understood.
    """
    return upcoming_instants(_found(caller, schedule_id), count=count)


def upcoming_instants(found: Schedule, *, count: int) -> list[Upcoming]:
    """Give the next instants of a schedule at hand; see `preview_schedule`."""
    one = loaded_schedule(found)
    return _upcoming(one.timetable(), one.row["last_nominal_at"] or one.now, count, since=one.now)


def _upcoming(
    timetable: Timetable, after: datetime, count: int, since: datetime | None = None
) -> list[Upcoming]:
    most = min(max(count, 1), MAX_PREVIEW)
    start = max(after, since) if since is not None else after
    return [
        Upcoming(at=at, note=timetable.rule.note(at)) for at in islice(timetable.after(start), most)
    ]


def wanted_of(found: Schedule) -> Wanted:
    """Give what a stored schedule was asked for as."""
    one, task = loaded_schedule(found), found.periodic_task
    interval = None
    if task.interval is not None:
        rule = one.rule()
        interval = rule.every.total_seconds() if isinstance(rule, IntervalRule) else None
    return Wanted(
        key=found.key,
        task_type=task.task,
        timing=Timing(
            cron=_cron_text(one.row),
            timezone=str(one.row["timezone"] or "UTC"),
            interval_seconds=interval,
            once_at=one.row["clocked_time"],
            solar=_solar(one.row),
            start_at=task.start_time,
            end_at=task.expires,
        ),
        policies=Policies(**{name: getattr(found, name) for name in Policies.__slots__}),
        payload=one.payload(),
        options=({"queue": task.queue} if task.queue else {}) | found.options,
        description=task.description,
    )


def _cron_text(row: Mapping[str, Any]) -> str | None:
    if row["minute"] is None:
        return None
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return " ".join(row[name] for name in names)


def _solar(row: Mapping[str, Any]) -> Solar | None:
    if row["event"] is None:
        return None
    place = {name: float(row[name]) for name in ("latitude", "longitude")}
    return Solar(event=row["event"], **place)


def _check(caller: Caller, wanted: Wanted, *, first: bool) -> None:
    if not 1 <= len(wanted.key) <= MAX_KEY_LENGTH or "\x00" in wanted.key:
        raise InvalidRule.of("key", f"a key has 1 to {MAX_KEY_LENGTH} characters")
    timetable = check_timing(wanted.timing)
    check_policies(wanted.policies)
    if first and timetable.next(database_now()) is None:
        raise _never_due(wanted.timing)
    check_scheduled(
        ScheduledSubmission(
            tenant_id=caller.tenant_id,
            schedule=wanted.key,
            type=wanted.task_type,
            payload=wanted.payload,
            options=dict(wanted.options),
        )
    )


def _never_due(timing: Timing) -> InvalidRule:
    """Name the part of a timing because of which nothing is due any more."""
    if timing.once_at is not None:
        part, reason = "once_at", "once_at lies in the past, or not between start_at and end_at"
    elif timing.end_at is not None:
        part, reason = "end_at", "end_at lies before the next instant"
    else:
        part, reason = "solar", "the sun never comes to it there"
    return InvalidRule.of(part, f"nothing would ever be due: {reason}")


def _found(caller: Caller, schedule_id: uuid.UUID) -> Schedule:
    found = Schedule.objects.filter(tenant_id=caller.tenant_id, id=schedule_id).first()
    if found is None:
        raise ScheduleNotFound
    return found
