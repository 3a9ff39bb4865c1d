"""Pure timing: what kinds of rules there are, and a timetable that bounds one in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any, Final, Protocol

from celery.schedules import solar
from django.core.exceptions import ImproperlyConfigured

from scheduler.errors import InvalidRule

LEAST_INTERVAL: Final = timedelta(milliseconds=100)
_MICROSECOND: Final = timedelta(microseconds=1)


class Rule(Protocol):
    """When something is due."""

    def after(self, instant: datetime, /) -> Iterator[datetime]:
        """Yield the due instants later than an aware instant, in order, as aware UTC."""

    def note(self, at: datetime, /) -> str:
        """Say in a sentence what is unusual about a due instant; empty for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalRule:
    """Due at `anchor + k * every`, so that late firings do not shift later ones.

    Attributes:
        every: at least `LEAST_INTERVAL`.
        anchor: aware.
        first: the least k: 0 where the anchor itself is due.
    """

    every: timedelta
    anchor: datetime
    first: int = 1

    def __post_init__(self) -> None:
        if self.every < LEAST_INTERVAL:
            raise InvalidRule.of("interval", "an interval lasts at least 0.1 seconds")

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the due instants later than `instant`, without end."""
        anchor = self.anchor.astimezone(UTC)
        start = max(self.first, (instant - anchor) // self.every + 1)
        for number in count(start):
            yield anchor + number * self.every

    def note(self, at: datetime) -> str:
        """Say nothing: instants of intervals know no clocks."""
        del at
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnceRule:
    """Due once, at `at` (aware)."""

    at: datetime

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the instant if it is later than `instant`."""
        if self.at > instant:
            yield self.at.astimezone(UTC)

    def note(self, at: datetime) -> str:
        """Say nothing."""
        del at
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolarRule:
    """Due at an event of the sun, such as `sunrise`, at a place; computed by Celery with ephem.

    Attributes:
        event: one of django-celery-beat's.
        latitude: degrees, north positive.
        longitude: degrees, east positive.
    """

    event: str
    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        try:
            self._sun(datetime(2024, 1, 1, tzinfo=UTC))
        except ImproperlyConfigured as error:
            raise InvalidRule.of(
                "solar", "rules of the sun need the package ephem; install ephem==4.2"
            ) from error
        except ValueError as error:
            raise InvalidRule.of("solar", str(error)) from error

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the events later than `instant`, without end."""
        last = instant.astimezone(UTC)
        while True:
            last += self._sun(last).remaining_estimate(last)
            yield last
            last += timedelta(seconds=1)

    def note(self, at: datetime) -> str:
        """Say nothing."""
        del at
        return ""

    def _sun(self, now: datetime) -> solar:
        event: Any = self.event
        return solar(event, self.latitude, self.longitude, nowfun=lambda: now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """A rule within its bounds.

    Attributes:
        start: nothing is due before (aware), or None.
        end: nothing is due from then on (aware), or None.
        since: nothing is due at or before it: the timing was not in force yet.
    """

    rule: Rule
    start: datetime | None = None
    end: datetime | None = None
    since: datetime | None = None

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the due instants later than `instant`, in order."""
        begin = instant.astimezone(UTC)
        if self.since is not None:
            begin = max(begin, self.since.astimezone(UTC))
        if self.start is not None:
            begin = max(begin, self.start.astimezone(UTC) - _MICROSECOND)
        for at in self.rule.after(begin):
            if self.end is not None and at >= self.end:
                return
            yield at

    def next(self, instant: datetime) -> datetime | None:
        """Give the first due instant later than `instant`, or None where there is none."""
        return next(self.after(instant), None)

    def between(self, after: datetime, until: datetime, *, most: int) -> list[datetime]:
        """Give at most `most` due instants later than `after` and not later than `until`."""
        found: list[datetime] = []
        for at in islice(self.after(after), most):
            if at > until:
                break
            found.append(at)
        return found
