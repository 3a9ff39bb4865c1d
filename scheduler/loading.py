"""A schedule with its timing out of the tables of Taskmill and django-celery-beat, in one row.

The only place that knows how those tables say when something is due.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery.schedules import ParseException, crontab

from scheduler.cron import CronRule, read_cron
from scheduler.decisions import CatchUp, CatchUpRule, Overlap, Spread, lag_of
from scheduler.errors import InvalidRule
from scheduler.models import Kind, Origin, Status
from scheduler.rules import IntervalRule, OnceRule, Rule, Timetable
from scheduler.sun import SolarRule
from tasks_app.db import Cursor, rows_as_dicts

_COLUMNS: Final = """
    s.id, s.tenant_id, s.key, s.kind, s.origin, s.options, s.overlap, s.catch_up, s.catch_up_most,
    s.spread, s.spread_seconds, s.expire_seconds, s.pause_after_failures, s.status, s.status_reason,
    s.status_by,
    s.timing, s.anchor_at, s.next_nominal_at, s.next_at, s.last_nominal_at, s.failures_in_row,
    p.id AS task_row, p.name, p.task, p.args, p.kwargs, p.queue, p.enabled, p.one_off,
    p.start_time, p.expires, p.last_run_at, p.date_changed, p.expire_seconds AS celery_expire,
    c.minute, c.hour, c.day_of_month, c.month_of_year, c.day_of_week, c.timezone,
    i.every, i.period, k.clocked_time, o.event, o.latitude, o.longitude, taskmill_now() AS now
"""

_JOINS: Final = """
LEFT JOIN django_celery_beat_crontabschedule c ON c.id = p.crontab_id
LEFT JOIN django_celery_beat_intervalschedule i ON i.id = p.interval_id
LEFT JOIN django_celery_beat_clockedschedule k ON k.id = p.clocked_id
LEFT JOIN django_celery_beat_solarschedule o ON o.id = p.solar_id
"""

SELECT_SCHEDULES: Final = f"""
SELECT {_COLUMNS} FROM taskmill_schedule s
JOIN django_celery_beat_periodictask p ON p.id = s.periodic_task_id {_JOINS}
"""  # noqa: S608 - built from constants

SELECT_TASK_ROWS: Final = f"""
SELECT {_COLUMNS} FROM django_celery_beat_periodictask p
LEFT JOIN taskmill_schedule s ON s.periodic_task_id = p.id {_JOINS}
WHERE p.id = ANY(%(ids)s)
"""  # noqa: S608 - built from constants


@dataclass(frozen=True, slots=True)
class Loaded:
    """A row of `SELECT_SCHEDULES`."""

    row: dict[str, Any]

    @property
    def id(self) -> uuid.UUID:
        """The schedule's id."""
        found: uuid.UUID = self.row["id"]
        return found

    @property
    def now(self) -> datetime:
        """The database's clock when it was read."""
        found: datetime = self.row["now"]
        return found

    @property
    def is_celery(self) -> bool:
        """Whether it starts a plain Celery task."""
        return bool(self.row["kind"] == Kind.CELERY)

    @property
    def is_on_clock(self) -> bool:
        """Whether its instants are due; paused ones of Taskmill leave rows too."""
        if self.row["status"] == Status.PAUSED:
            return not self.is_celery
        return bool(self.row["status"] == Status.ACTIVE)

    @property
    def overlap(self) -> Overlap:
        """What may run beside what."""
        return Overlap(self.row["overlap"])

    def catch_up(self, grace_seconds: float) -> CatchUpRule:
        """Give the rule for late instants."""
        return CatchUpRule(
            policy=CatchUp(self.row["catch_up"]),
            most=self.row["catch_up_most"],
            grace_seconds=grace_seconds,
            expire_seconds=self.row["expire_seconds"],
        )

    def lag(self, nominal_at: datetime) -> timedelta:
        """Give how long after its instant it fires."""
        return lag_of(
            Spread(self.row["spread"]),
            self.row["spread_seconds"],
            key=str(self.id),
            nominal_at=nominal_at,
        )

    def payload(self) -> Any:
        """Give the payload of its tasks: the keyword arguments, or the one positional one."""
        args, kwargs = json.loads(self.row["args"] or "[]"), json.loads(self.row["kwargs"] or "{}")
        return args[0] if len(args) == 1 and not kwargs else kwargs

    def timetable(self) -> Timetable:
        """Give when it is due.

        Raises:
            InvalidRule: its timing is not understood, or none is set.
        """
        return Timetable(
            rule=self.rule(),
            start=self.row["start_time"],
            end=self.row["expires"],
            since=None if self.row["clocked_time"] else self.row["anchor_at"],
        )

    def rule(self) -> Rule:
        """Give its rule.

        Raises:
            InvalidRule: as `timetable`.
        """
        row = self.row
        if row["minute"] is not None:
            return self._cron()
        if row["every"] is not None:
            start = row["start_time"]
            return IntervalRule(
                every=timedelta(**{row["period"]: row["every"]}),
                anchor=start or row["anchor_at"],
                first=1 if start is None else 0,
            )
        if row["clocked_time"] is not None:
            return OnceRule(at=row["clocked_time"])
        if row["event"] is not None:
            return SolarRule(
                event=row["event"],
                latitude=float(row["latitude"]),
                longitude=float(row["longitude"]),
            )
        raise InvalidRule.of("cron", "no timing is set; give cron, interval, once or solar")

    def _cron(self) -> CronRule:
        row = self.row
        fields = [
            row[name] for name in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        ]
        zone = str(row["timezone"] or "UTC")
        if row["origin"] == Origin.TABLES:
            return read_cron(_celery_fields(*fields), zone, needs_both_days=True)
        return read_cron(" ".join(fields), zone)

    def timing_text(self) -> str:
        """Give a text that changes when the timing does."""
        row = self.row
        parts = (
            *(row["minute"], row["hour"], row["day_of_month"], row["month_of_year"]),
            *(row["day_of_week"], row["timezone"], row["every"], row["period"]),
            *(_utc(row["clocked_time"]), row["event"], row["latitude"], row["longitude"]),
            *(_utc(row["start_time"]), row["one_off"]),
        )
        return " ".join("-" if part is None else str(part) for part in parts)[:1000]


def _utc(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _celery_fields(minute: str, hour: str, day: str, month: str, weekday: str) -> str:
    """Give Celery's crontab fields as cron's: ranges that wrap around are written out."""
    try:
        parsed: Any = crontab(
            minute=minute,
            hour=hour,
            day_of_month=day,
            month_of_year=month,
            day_of_week=weekday,
        )
    except (ParseException, ValueError) as error:
        raise InvalidRule.of("cron", f"Celery does not understand it: {error}") from error
    written = (
        (minute, parsed.minute, 60),
        (hour, parsed.hour, 24),
        (day, parsed.day_of_month, 31),
        (month, parsed.month_of_year, 12),
        (weekday, parsed.day_of_week, 7),
    )
    return " ".join(_field(text, values, size) for text, values, size in written)


def _field(text: str, values: set[int], size: int) -> str:
    plain = "".join(text.split())
    if len(values) == size and not plain.startswith("*"):
        return ",".join(map(str, sorted(values)))
    if len(values) == size or plain.startswith("*"):
        return plain
    return ",".join(map(str, sorted(values)))


def load(cursor: Cursor, where: str, parameters: dict[str, Any]) -> list[Loaded]:
    """Read schedules.

    Args:
        where: what follows the joins; a constant of the caller.
    """
    cursor.execute(SELECT_SCHEDULES + where, parameters)
    return [_loaded(row) for row in rows_as_dicts(cursor)]


def load_task_rows(cursor: Cursor, ids: Sequence[int]) -> list[Loaded]:
    """Read periodic tasks by id; the schedule's columns are None where there is none yet."""
    cursor.execute(SELECT_TASK_ROWS, {"ids": list(ids)})
    return [_loaded(row) for row in rows_as_dicts(cursor)]


def _loaded(row: dict[str, Any]) -> Loaded:
    if isinstance(row["options"], str):
        row["options"] = json.loads(row["options"])
    return Loaded(row)
