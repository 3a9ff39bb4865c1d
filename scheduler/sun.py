"""Pure timing by the sun: its rising, its setting, noon, and the three twilights, at a place.

The events are those of Celery and django-celery-beat, so that their rows run as they are. They are
computed here all the same, by ephem: Celery's own class answers a sun that never rises with the
instant at which it gave up looking, which would be fired, and its results depend on where the
search began, so that one sunrise can be found twice.
Source: docs/adr/0011-schedules.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import ephem

from scheduler.errors import InvalidRule

SolarEvent = Literal[
    "dawn_astronomical",
    "dawn_nautical",
    "dawn_civil",
    "sunrise",
    "solar_noon",
    "sunset",
    "dusk_civil",
    "dusk_nautical",
    "dusk_astronomical",
]
SOLAR_EVENTS: Final[tuple[str, ...]] = get_args(SolarEvent)
_HEIGHT: Final = {
    "astronomical": "-18",
    "nautical": "-12",
    "civil": "-6",
}
"""Of the sun's middle at the twilights, in degrees."""
_EDGE: Final = "-0:34"
"""Of its upper edge at sunrise and sunset: the air bends its light by so much."""

_SKY: Final[Any] = ephem  # its own types leave half of it out
LONGEST_DAYS: Final = 400
"""Without an event for so long there is none: at every place where there is one, a year has it."""

_DAY: Final = timedelta(days=1)
_APART: Final = timedelta(hours=1)
"""Two events of a kind lie further apart than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolarRule:
    """Due at an event of the sun at a place, to the second; on some days there is none.

    Attributes:
        event: one of `SOLAR_EVENTS`.
        latitude: degrees, north positive.
        longitude: degrees, east positive.
    """

    event: str
    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        if self.event not in SOLAR_EVENTS:
            detail = f"there is no event {self.event[:40]!r}; give one of {', '.join(SOLAR_EVENTS)}"
            raise InvalidRule.of("solar/event", detail)
        for name, most in (("latitude", 90), ("longitude", 180)):
            if not -most <= getattr(self, name) <= most:
                raise InvalidRule.of(f"solar/{name}", f"a {name} is {-most} to {most} degrees")

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the events later than `instant`; ends where the sun never comes to it."""
        begin = instant.astimezone(UTC)
        day = begin.replace(hour=0, minute=0, second=0, microsecond=0)
        empty_days = 0
        while empty_days < LONGEST_DAYS:
            found = [at for at in self._of_day(day) if at > begin]
            yield from found
            empty_days = 0 if found else empty_days + 1
            day += _DAY

    def note(self, at: datetime) -> str:
        """Say so where the day before has no such event."""
        before = next(self.after(at - _DAY - _APART), at)
        if before < at - _APART:
            return ""
        return "the sun does not do this every day here"

    def _of_day(self, day: datetime) -> list[datetime]:
        """Give the events of a day of UTC; every search for them begins at its midnight."""
        found: list[datetime] = []
        start = day
        while (at := self._next(start)) is not None and at < day + _DAY:
            found.append(at)
            start = at + _APART
        return found

    def _next(self, start: datetime) -> datetime | None:
        """Give the next event to the second, or None where the sun does not come to it."""
        place = _SKY.Observer()
        place.lat, place.lon = str(self.latitude), str(self.longitude)
        place.elevation, place.pressure, place.date = 0, 0, start
        sun = _SKY.Sun()
        try:
            if self.event == "solar_noon":
                at = place.next_transit(sun)
            else:
                at = self._crossing(place, sun)
        except _SKY.CircumpolarError:
            return None
        found: datetime = at.datetime()
        return (found + timedelta(seconds=0.5)).replace(microsecond=0, tzinfo=UTC)

    def _crossing(self, place: Any, sun: Any) -> Any:
        twilight = self.event.partition("_")[2]
        place.horizon = _HEIGHT.get(twilight, _EDGE)
        is_rising = self.event == "sunrise" or self.event.startswith("dawn_")
        find = place.next_rising if is_rising else place.next_setting
        return find(sun, use_center=bool(twilight))
