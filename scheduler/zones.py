"""Pure arithmetic of time zones: where clocks are put forward (gaps) and back (folds).

Everything is found by asking `zoneinfo`, so a newer tzdata changes what is computed next, never
what has been recorded. Instants are aware UTC, local times are naive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scheduler.errors import InvalidRule

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """An instant at which a zone's clocks jump.

    Attributes:
        at: the first instant of the new offset (aware UTC, whole seconds).
        before: offset from UTC until then.
        after: offset from UTC from then on.
    """

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether local times are skipped; otherwise they are repeated."""
        return self.after > self.before

    @property
    def starts(self) -> datetime:
        """First local time that is skipped or repeated."""
        return _local(self.at, min(self.before, self.after))

    @property
    def ends(self) -> datetime:
        """First local time after those."""
        return _local(self.at, max(self.before, self.after))

    def holds(self, local: datetime) -> bool:
        """Say whether a local time is among those skipped or repeated."""
        return self.starts <= local < self.ends


def _local(at: datetime, offset: timedelta) -> datetime:
    return at.replace(tzinfo=None) + offset


def find_zone(name: str) -> ZoneInfo:
    """Give a zone by its IANA name.

    Raises:
        InvalidRule: there is none of this name.
    """
    try:
        return _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRule.of(
            "timezone",
            f"there is no time zone {name[:60]!r}; write an IANA name, such as Europe/Berlin",
        ) from error


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def offset_at(zone: ZoneInfo, at: datetime) -> timedelta:
    """Give the offset from UTC in force at an instant."""
    return at.astimezone(zone).utcoffset() or timedelta()


def local_at(zone: ZoneInfo, at: datetime) -> datetime:
    """Give the naive local time that clocks show at an instant."""
    return at.astimezone(zone).replace(tzinfo=None)


@lru_cache(maxsize=4096)
def shifts_of_year(zone: ZoneInfo, year: int) -> tuple[Shift, ...]:
    """Give the shifts of a UTC year in order, found by a look at every day."""
    return tuple(_find_shifts(zone, year))


def _find_shifts(zone: ZoneInfo, year: int) -> Iterator[Shift]:
    day = datetime(year, 1, 1, tzinfo=UTC)
    end = datetime(year + 1, 1, 1, tzinfo=UTC)
    before = offset_at(zone, day - _SECOND)
    if before != offset_at(zone, day):
        yield Shift(at=day, before=before, after=offset_at(zone, day))
    while day < end:
        until = min(day + _DAY, end - _SECOND)
        if offset_at(zone, day) != offset_at(zone, until):
            at = _bisect(zone, day, until)
            yield Shift(at=at, before=offset_at(zone, day), after=offset_at(zone, at))
        day += _DAY


def _bisect(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    old = offset_at(zone, low)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if offset_at(zone, middle) == old:
            low = middle
        else:
            high = middle
    return high


def first_shift(zone: ZoneInfo, after: datetime, until: datetime) -> Shift | None:
    """Give the first shift later than `after` and not later than `until`."""
    for year in range(after.year, until.year + 1):
        for shift in shifts_of_year(zone, year):
            if after < shift.at <= until:
                return shift
    return None


def shift_near(zone: ZoneInfo, local: datetime) -> Shift | None:
    """Give the shift that skips or repeats a local time, or None."""
    for year in {(local - _DAY).year, local.year, (local + _DAY).year}:
        for shift in shifts_of_year(zone, year):
            if shift.holds(local):
                return shift
    return None


def first_valid(zone: ZoneInfo, local: datetime) -> datetime:
    """Give the instant of a local time: the first of two, or the end of the gap that skips it."""
    at = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if local_at(zone, at) == local:
        return at
    shift = shift_near(zone, local)
    return at if shift is None else shift.at
