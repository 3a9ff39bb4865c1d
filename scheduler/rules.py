"""Pure timing: what kinds of rules there are, and a timetable that bounds one in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Final, Protocol

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
