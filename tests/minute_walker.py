"""An oracle for cron rules that shares nothing with the product: it walks every minute of UTC, asks
what clocks show, and compares that with fields it reads itself.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


@dataclass
class Fields:
    """A cron expression, read."""

    minutes: set[int]
    hours: set[int]
    is_day: Callable[[date], bool]
    follows_clock: bool

    def match(self, local: datetime) -> bool:
        return (
            local.minute in self.minutes and local.hour in self.hours and self.is_day(local.date())
        )


def read(expression: str) -> Fields:
    minute, hour, day, month, weekday = expression.upper().split()
    months = numbers(month, 1, 12, MONTHS)
    by_day, by_weekday = day_test(day), weekday_test(weekday)
    is_and = day.startswith("*") or weekday.startswith("*")

    def is_day(at: date) -> bool:
        if at.month not in months:
            return False
        left, right = by_day(at), by_weekday(at)
        return (left and right) if is_and else (left or right)

    return Fields(
        minutes=numbers(minute, 0, 59),
        hours=numbers(hour, 0, 23),
        is_day=is_day,
        follows_clock=minute.startswith("*") or hour.startswith("*"),
    )


def numbers(text: str, least: int, most: int, names: tuple[str, ...] = ()) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        body, _, step = term.partition("/")
        if body == "*":
            low, high = least, most
        elif "-" in body:
            low, high = (number(part, names, least) for part in body.split("-"))
        else:
            low = number(body, names, least)
            high = most if step else low
        found.update(range(low, high + 1, int(step or 1)))
    return found


def number(text: str, names: tuple[str, ...], least: int) -> int:
    return names.index(text) + least if text in names else int(text)


def month_length(at: date) -> int:
    return calendar.monthrange(at.year, at.month)[1]


def day_test(text: str) -> Callable[[date], bool]:
    if text == "L":
        return lambda at: at.day == month_length(at)
    if text == "LW":
        return lambda at: (
            at.weekday() < 5
            and all(
                date(at.year, at.month, later).weekday() >= 5
                for later in range(at.day + 1, month_length(at) + 1)
            )
        )
    days = numbers(text, 1, 31)
    return lambda at: at.day in days


def weekday_test(text: str) -> Callable[[date], bool]:
    def of(at: date) -> int:
        return (at.weekday() + 1) % 7

    if text.endswith("L"):
        last = int(text[:-1]) % 7
        return lambda at: of(at) == last and at.day + 7 > month_length(at)
    if "#" in text:
        name, _, nth = text.partition("#")
        wanted = number(name, DAYS, 0) % 7
        return lambda at: of(at) == wanted and (at.day - 1) // 7 + 1 == int(nth)
    days = {one % 7 for one in numbers(text, 0, 7, DAYS)}
    return lambda at: of(at) in days


def walk(expression: str, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Give the due minutes later than `after` and not later than `until`."""
    return walk_many([expression], zone, after, until)[0]


def walk_many(
    expressions: list[str], zone: ZoneInfo, after: datetime, until: datetime
) -> list[list[datetime]]:
    """Walk once for many expressions."""
    fields = [read(one) for one in expressions]
    found: list[list[datetime]] = [[] for _ in expressions]
    at = after.astimezone(UTC).replace(second=0, microsecond=0)
    shown = at.astimezone(zone).replace(tzinfo=None)
    while (at := at + MINUTE) <= until:
        aware = at.astimezone(zone)
        local = aware.replace(tzinfo=None)
        skipped = skipped_between(shown, local)
        for number_, one in enumerate(fields):
            is_due = one.match(local) and (one.follows_clock or not aware.fold)
            if skipped and not one.follows_clock:
                is_due = is_due or any(one.match(late) for late in skipped)
            if is_due and at > after:
                found[number_].append(at)
        shown = local
    return found


def skipped_between(before: datetime, after: datetime) -> list[datetime]:
    """Give the minutes that clocks skipped."""
    count = int((after - before).total_seconds() // 60) - 1
    return [before + MINUTE * (n + 1) for n in range(max(0, count))]
