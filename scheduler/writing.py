"""Writes schedules into the tables, for services and for declarations in code.

Callers hold the transaction, and the schedule's row where it exists.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.apps import apps
from django.db import connection
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)

from scheduler.cron import read_cron
from scheduler.decisions import MAX_CATCH_UP, CatchUp, Overlap, Spread
from scheduler.errors import InvalidRule, ScheduleExists
from scheduler.models import Kind, Origin, Schedule, Status
from scheduler.rules import IntervalRule, OnceRule, Rule, Timetable
from scheduler.sun import SolarRule
from scheduler.ticking.changes import renew_one
from tasks_app.telemetry import logger

log = logger(__name__)

RETIRED: Final = "removed from the code"
MAX_INTERVAL_SECONDS: Final = 366 * 86_400.0
MAX_FRACTION_SECONDS: Final = 2_000
"""Longer intervals in microseconds do not fit their column."""
MAX_WINDOW_SECONDS: Final = 86_400
_PLACES: Final = Decimal("0.000001")
"""Of a degree, that django-celery-beat stores: a tenth of a metre."""
_STORABLE: Final = {
    "minute": 240,
    "hour": 96,
    "day_of_month": 124,
    "month_of_year": 64,
    "day_of_week": 64,
}
"""Longest texts of django-celery-beat's columns, in the order of cron's fields."""
_CRON_FIELDS: Final = tuple(_STORABLE)
_WRITTEN: Final = (
    *("task", "queue", "description", "args", "kwargs", "start_time", "expires", "one_off"),
    *("crontab_id", "interval_id", "clocked_id", "solar_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solar:
    """An event of the sun at a place; degrees, north and east positive."""

    event: str
    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a schedule is due: exactly one of `cron`, `interval_seconds`, `once_at` and `solar`.

    Attributes:
        cron: five fields.
        timezone: IANA name, for `cron`.
        interval_seconds: 1 or more, counted from `start_at`, or from when it is set.
        once_at: aware.
        start_at: nothing is due before (aware).
        end_at: nothing is due from then on (aware).
    """

    cron: str | None = None
    timezone: str = "UTC"
    interval_seconds: float | None = None
    once_at: datetime | None = None
    solar: Solar | None = None
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """How a schedule behaves; see docs/explanation/schedules.md.

    Attributes:
        catch_up_most: 1 to 100 instants, for catch-up `all`.
        spread_seconds: width of the window, 0 to 86,400.
        expire_seconds: an instant later than this is never fired.
        pause_after_failures: 1 to 1,000 failed tasks in a row.
    """

    overlap: Overlap = Overlap.ALLOW
    catch_up: CatchUp = CatchUp.LAST
    catch_up_most: int = 10
    spread: Spread = Spread.NONE
    spread_seconds: int = 0
    expire_seconds: int | None = None
    pause_after_failures: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A schedule as asked for.

    Attributes:
        key: 1 to 100 characters, unique in the tenant.
        payload: JSON values.
        options: submission options of its tasks.
    """

    key: str
    task_type: str
    timing: Timing
    policies: Policies = field(default_factory=Policies)
    payload: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""


def check_timing(timing: Timing) -> Timetable:
    """Give the timetable of a timing; one without `start_at` counts from 1970.

    Raises:
        InvalidRule: it is not understood; says what to write.
    """
    given = [timing.cron, timing.interval_seconds, timing.once_at, timing.solar]
    if sum(one is not None for one in given) != 1:
        raise InvalidRule.of("cron", "give exactly one of cron, interval_seconds, once_at, solar")
    for name in ("once_at", "start_at", "end_at"):
        at: datetime | None = getattr(timing, name)
        if at is not None and at.tzinfo is None:
            raise InvalidRule.of(name, f"{name} needs an offset, such as 2027-01-31T09:00:00Z")
    if timing.start_at and timing.end_at and timing.end_at <= timing.start_at:
        raise InvalidRule.of("end_at", "end_at lies before start_at")
    return Timetable(rule=_rule(timing), start=timing.start_at, end=timing.end_at)


def _rule(timing: Timing) -> Rule:
    if timing.cron is not None:
        rule = read_cron(timing.cron, timing.timezone)
        for name, text in zip(_CRON_FIELDS, rule.expression.split(), strict=True):
            if len(text) > _STORABLE[name]:
                raise InvalidRule.of("cron", f"the {name.replace('_', ' ')} is too long to store")
        return rule
    if timing.interval_seconds is not None:
        if not 1 <= timing.interval_seconds <= MAX_INTERVAL_SECONDS:
            raise InvalidRule.of("interval_seconds", "an interval lasts 1 second to 366 days")
        if timing.interval_seconds > MAX_FRACTION_SECONDS and timing.interval_seconds % 1:
            raise InvalidRule.of(
                "interval_seconds", f"above {MAX_FRACTION_SECONDS} seconds, write whole ones"
            )
        return IntervalRule(
            every=timedelta(seconds=timing.interval_seconds),
            anchor=timing.start_at or datetime(1970, 1, 1, tzinfo=UTC),
            first=0 if timing.start_at else 1,
        )
    if timing.once_at is not None:
        return OnceRule(at=timing.once_at)
    return SolarRule(**asdict(timing.solar))  # type: ignore[arg-type]  # one of the four is given


def check_policies(policies: Policies) -> None:
    """Refuse policies out of bounds.

    Raises:
        InvalidRule: names the field.
    """
    bounds: tuple[tuple[str, int | None, int, int], ...] = (
        ("catch_up_most", policies.catch_up_most, 1, MAX_CATCH_UP),
        ("spread_seconds", policies.spread_seconds, 0, MAX_WINDOW_SECONDS),
        ("expire_seconds", policies.expire_seconds, 1, 31_536_000),
        ("pause_after_failures", policies.pause_after_failures, 1, 1000),
    )
    for name, value, least, most in bounds:
        if value is not None and not least <= value <= most:
            raise InvalidRule.of(name, f"{name} is {least} to {most}")


def insert_schedule(
    wanted: Wanted, *, tenant_id: int, tenant: str, origin: Origin, actor: str
) -> Schedule:
    """Insert a schedule with its periodic task, and find its first instant.

    Raises:
        ScheduleExists: the key is taken.
    """
    name = wanted.key if tenant == "default" else f"{tenant}/{wanted.key}"
    if (
        Schedule.objects.filter(tenant_id=tenant_id, key=wanted.key).exists()
        or PeriodicTask.objects.filter(name=name).exists()
    ):
        raise ScheduleExists(f"there is a schedule {wanted.key} already", key=wanted.key)
    task = PeriodicTask(name=name)
    fill_task(task, wanted)
    task.save()
    now = database_now()
    made = Schedule.objects.create(
        periodic_task=task,
        tenant_id=tenant_id,
        key=wanted.key,
        kind=Kind.TASKMILL,
        origin=origin,
        options=dict(wanted.options),
        anchor_at=now,
        created_at=now,
        updated_at=now,
        created_by=actor,
        **asdict(wanted.policies),
    )
    refresh(made)
    return made


def change_schedule(found: Schedule, wanted: Wanted) -> None:
    """Bring a schedule to what is wanted; where nothing differs nothing is written to its task."""
    task = found.periodic_task
    before = _columns(task)
    fill_task(task, wanted)
    if _columns(task) != before:
        task.save()
    for name, value in asdict(wanted.policies).items():
        setattr(found, name, value)
    found.options = dict(wanted.options)
    found.updated_at = database_now()
    names = [*asdict(wanted.policies), "options", "updated_at"]
    found.save(update_fields=names)
    refresh(found)


def _columns(task: PeriodicTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in _WRITTEN}


def fill_task(task: PeriodicTask, wanted: Wanted) -> None:
    """Write what is wanted into a periodic task, without saving it."""
    timing, payload = wanted.timing, wanted.payload
    options = dict(wanted.options)
    task.task = wanted.task_type
    task.queue = options.get("queue")
    task.description = wanted.description
    task.kwargs = json.dumps(payload if isinstance(payload, dict) else {})
    is_positional = payload is not None and not isinstance(payload, dict)
    task.args = json.dumps([payload] if is_positional else [])
    task.start_time, task.expires = timing.start_at, timing.end_at
    task.one_off = timing.once_at is not None
    task.crontab = _crontab(timing)
    task.interval = _interval(timing)
    task.clocked = _clocked(timing)
    task.solar = _solar(timing)


def _shared(model: Any, **values: Any) -> Any:
    """Give the row with these values, as django-celery-beat shares them; none is unique."""
    return model.objects.filter(**values).order_by("pk").first() or model.objects.create(**values)


def _crontab(timing: Timing) -> Any:
    if timing.cron is None:
        return None
    rule = read_cron(timing.cron, timing.timezone)
    fields = dict(zip(_CRON_FIELDS, rule.expression.split(), strict=True))
    return _shared(CrontabSchedule, **fields, timezone=timing.timezone)


def _interval(timing: Timing) -> Any:
    seconds = timing.interval_seconds
    if seconds is None:
        return None
    if float(seconds).is_integer():
        return _shared(IntervalSchedule, every=int(seconds), period=IntervalSchedule.SECONDS)
    microseconds = round(seconds * 1_000_000)
    return _shared(IntervalSchedule, every=microseconds, period=IntervalSchedule.MICROSECONDS)


def _clocked(timing: Timing) -> Any:
    return None if timing.once_at is None else _shared(ClockedSchedule, clocked_time=timing.once_at)


def _solar(timing: Timing) -> Any:
    if timing.solar is None:
        return None
    place = {
        name: Decimal(str(getattr(timing.solar, name))).quantize(_PLACES)
        for name in ("latitude", "longitude")
    }
    return _shared(SolarSchedule, event=timing.solar.event, **place)


def cron_text(cron: Any) -> str:
    """Give the five fields of a row of django-celery-beat."""
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return " ".join(getattr(cron, name) for name in names)


def interval_seconds(interval: Any) -> float:
    """Give the length of a row of django-celery-beat."""
    return timedelta(**{interval.period: interval.every}).total_seconds()


def set_switch(found: Schedule, *, is_on: bool) -> None:
    """Switch a periodic task on or off and follow it."""
    task = found.periodic_task
    if task.enabled != is_on:
        task.enabled = is_on
        task.save()
    refresh(found)


def refresh(found: Schedule) -> None:
    """Find the schedule's next instant and read its row again."""
    with connection.cursor() as cursor:
        renew_one(cursor, found.periodic_task_id)
    found.refresh_from_db()


def database_now() -> datetime:
    """Give the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_now()")
        now: datetime = cursor.fetchone()[0]
        return now


def upsert_declared(wanted: Wanted, *, tenant_id: int) -> list[uuid.UUID]:
    """Write a declared schedule; gives its id, or nothing where somebody else has its key."""
    found = (
        Schedule.objects.select_for_update(of=("self",))
        .select_related("periodic_task")
        .filter(tenant_id=tenant_id, key=wanted.key)
        .first()
    )
    if found is None:
        try:
            made = insert_schedule(
                wanted,
                tenant_id=tenant_id,
                tenant=tenant_slug(tenant_id),
                origin=Origin.CODE,
                actor="code",
            )
        except ScheduleExists:
            log.exception("a periodic task has the name of a declared schedule", key=wanted.key)
            return []
        return [made.id]
    if found.origin != Origin.CODE:
        log.error("a schedule has the key of a declared one; rename it", key=wanted.key)
        return []
    was_retired = found.status == Status.RETIRED
    change_schedule(found, wanted)
    if was_retired:
        set_switch(found, is_on=True)
    return [found.id]


def tenant_slug(tenant_id: int) -> str:
    """Give a tenant's slug."""
    model: Any = apps.get_model("tasks_app", "Tenant")
    found: str = model.objects.values_list("slug", flat=True).get(pk=tenant_id)
    return found


def retire_missing(kept: Collection[uuid.UUID]) -> int:
    """Disable the schedules of the code that stand in it no more; gives how many."""
    gone = (
        Schedule.objects.select_for_update(of=("self",))
        .select_related("periodic_task")
        .filter(origin=Origin.CODE)
        .exclude(id__in=list(kept))
        .exclude(status=Status.RETIRED)
        .order_by("id")
    )
    count = 0
    for found in gone:
        put_aside(found, Status.RETIRED, reason=RETIRED, actor="code")
        count += 1
    return count


def put_aside(found: Schedule, status: Status, *, reason: str, actor: str) -> None:
    """Pause or retire a schedule, with the switch of its periodic task."""
    found.status, found.status_reason, found.status_by = status, reason[:500], actor[:120]
    found.status_at = found.updated_at = database_now()
    found.save(update_fields=["status", "status_reason", "status_by", "status_at", "updated_at"])
    set_switch(found, is_on=False)
