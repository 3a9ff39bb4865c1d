"""The daily report: what it says of a day, and the mail that says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from scheduler.models import Firing, Schedule, Status
from scheduler.reports.conf import ReportsConf
from scheduler.reports.numbers import HOUR, Numbers, total
from tasks_app.platform import finished_between, queues_waiting_longest

MOST_ROWS: Final = 10
_FIRING_OUTCOMES: Final = ("fired", "skipped", "missed")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeFailures:
    """How often a type failed on that day."""

    type: str
    numbers: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyReport:
    """A day of the whole installation.

    Attributes:
        day: the date in the report's time zone.
        timezone: IANA name.
        numbers: of all tasks that finished on that day.
        failing: the types with most failures, at most ten.
        waiting: the queues with the oldest waiting task when the report was made, at most ten:
            `{queue, waiting, oldest_seconds, oldest}`.
        firings: due instants of that day by outcome.
        broken: keys of schedules that cannot fire.
    """

    day: date
    timezone: str
    numbers: Numbers
    failing: list[TypeFailures]
    waiting: list[dict[str, Any]]
    firings: dict[str, int]
    broken: list[str]


def day_before(nominal_at: datetime, timezone: str) -> date:
    """Give the day that a report due at `nominal_at` is about."""
    return nominal_at.astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)


def bounds_of(day: date, timezone: str) -> tuple[datetime, datetime]:
    """Give the instants (UTC) at which a local day begins and ends: 23 to 25 hours."""
    zone = ZoneInfo(timezone)
    start, end = (
        datetime.combine(one, time(), tzinfo=zone).astimezone(UTC)
        for one in (day, day + timedelta(days=1))
    )
    return start, end


def make_report(day: date, timezone: str) -> DailyReport:
    """Measure a day, an hour at a time."""
    start, end = bounds_of(day, timezone)
    rows = [row for one in _slices(start, end) for row in finished_between(*one)]
    by_type: dict[str, Numbers] = {}
    for row in rows:
        by_type.setdefault(row["type"], Numbers()).add(row)
    failing = [
        TypeFailures(type=name, numbers=found) for name, found in by_type.items() if found.failures
    ]
    failing.sort(key=lambda one: (-one.numbers.failures, one.type))
    broken = Schedule.objects.filter(status=Status.BROKEN).order_by("key")
    return DailyReport(
        day=day,
        timezone=timezone,
        numbers=total(rows),
        failing=failing[:MOST_ROWS],
        waiting=[
            row | {"oldest": duration_text(row["oldest_seconds"])}
            for row in queues_waiting_longest(most=MOST_ROWS)
        ],
        firings={
            outcome: Firing.objects.filter(
                outcome=outcome, recorded_at__gte=start, recorded_at__lt=end
            ).count()
            for outcome in _FIRING_OUTCOMES
        },
        broken=list(broken.values_list("key", flat=True)[:MOST_ROWS]),
    )


def _slices(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    at = start
    while at < end:
        yield at, min(at + HOUR, end)
        at += HOUR


def duration_text(seconds: float | None) -> str:
    """Give a duration for people: `3.2 s`, `12 min`, `5.1 h`, `-`."""
    if seconds is None:
        return "-"
    for most, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / divisor:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"


def message_of(report: DailyReport, conf: ReportsConf, *, url: str) -> EmailMultiAlternatives:
    """Write the mail: text, with HTML as its alternative."""
    numbers = report.numbers
    rate = numbers.success_rate
    values = {
        "report": report,
        "numbers": numbers,
        "success_rate": "-" if rate is None else f"{rate:.2%}",
        "average_run": duration_text(numbers.average_run_seconds),
        "average_wait": duration_text(numbers.average_wait_seconds),
        "url": url,
    }
    message = EmailMultiAlternatives(
        subject=(
            f"Taskmill {report.day.isoformat()}: {numbers.finished} tasks,"
            f" {numbers.failures} failed"
        ),
        body=render_to_string("scheduler/reports/daily.txt", values),
        from_email=conf.sender,
        to=list(conf.recipients),
        headers={"Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(
        render_to_string("scheduler/reports/daily.html", values), "text/html"
    )
    return message
