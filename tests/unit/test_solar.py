"""The sun's rule against its own height, walked through in small steps, and against almanacs."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import ephem
import pytest

from scheduler.errors import InvalidRule
from scheduler.sun import SOLAR_EVENTS, SolarRule
from tests.beats import utc

DEPTH = {"astronomical": -18.0, "nautical": -12.0, "civil": -6.0, "": -34 / 60}
STEP_SECONDS = 300
BERLIN = {"latitude": 52.52, "longitude": 13.405}
TROMSO = {"latitude": 69.65, "longitude": 18.96}


def rule(event: str, **place: float) -> SolarRule:
    return SolarRule(event=event, **(place or BERLIN))


def walked(event: str, begin: datetime, days: int, **place: float) -> list[datetime]:
    """Give when the sun's height crosses the event's, by looking at it every few minutes."""
    observer, sun = ephem.Observer(), ephem.Sun()
    observer.lat, observer.lon = str(place["latitude"]), str(place["longitude"])
    observer.pressure = 0
    twilight = event.partition("_")[2]
    is_rising = event == "sunrise" or event.startswith("dawn_")
    heights = []
    for number in range(days * 86_400 // STEP_SECONDS + 1):
        observer.date = begin + timedelta(seconds=number * STEP_SECONDS)
        sun.compute(observer)
        edge = 0.0 if twilight else float(sun.radius)
        heights.append(float(sun.alt) + edge - float(ephem.degrees(str(DEPTH[twilight]))))
    return [
        begin + timedelta(seconds=(number + before / (before - after)) * STEP_SECONDS)
        for number, (before, after) in enumerate(pairwise(heights))
        if (before < 0 <= after if is_rising else before >= 0 > after)
    ]


@pytest.mark.parametrize(
    ("event", "begin", "place"),
    [
        ("sunrise", "2026-03-01T00:00:00Z", BERLIN),
        ("dusk_nautical", "2026-05-20T00:00:00Z", BERLIN),
        ("dawn_astronomical", "2026-07-10T00:00:00Z", BERLIN),
        ("sunset", "2027-01-01T00:00:00Z", TROMSO),
        ("sunrise", "2026-11-15T00:00:00Z", {"latitude": 69.65, "longitude": -160.1}),
    ],
)
def test_events_are_where_the_suns_height_crosses_theirs(
    event: str, begin: str, place: dict[str, float]
) -> None:
    start, days = utc(begin), 25
    expected = walked(event, start, days, **place)
    end = start + timedelta(days=days)
    found = [at for at in islice(rule(event, **place).after(start), days + 1) if at <= end]
    assert expected
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert abs((one - other).total_seconds()) < 120


def test_a_sunrise_and_a_sunset_are_those_of_the_almanac() -> None:
    begin = utc("2026-06-21T00:00:00Z")
    almanac = {"sunrise": "2026-06-21T02:43:00Z", "sunset": "2026-06-21T19:33:00Z"}
    for event, known in almanac.items():
        assert abs(next(rule(event).after(begin)) - utc(known)) < timedelta(minutes=1)


@pytest.mark.parametrize("event", SOLAR_EVENTS)
def test_what_follows_does_not_depend_on_where_the_search_began(event: str) -> None:
    found = list(islice(rule(event).after(utc("2026-04-01T00:00:00Z")), 20))
    assert sorted(set(found)) == found
    for before, at in pairwise(found):
        for instant in (before, before + timedelta(microseconds=1), at - timedelta(seconds=1)):
            assert next(rule(event).after(instant)) == at


def test_the_polar_night_is_passed_over_and_its_end_is_noted() -> None:
    sunrise = rule("sunrise", **TROMSO)
    last, first, second = islice(sunrise.after(utc("2026-11-27T00:00:00Z")), 3)
    assert last < utc("2026-12-01T00:00:00Z")
    assert utc("2027-01-12T00:00:00Z") < first < utc("2027-01-18T00:00:00Z")
    assert second - first < timedelta(days=1)
    assert [bool(sunrise.note(at)) for at in (last, first, second)] == [False, True, False]


def test_a_sun_that_never_comes_to_it_gives_no_instant_at_all() -> None:
    pole = rule("sunrise", latitude=90, longitude=0)
    assert list(pole.after(utc("2026-01-01T00:00:00Z"))) == []


@pytest.mark.parametrize(
    ("values", "pointer", "word"),
    [
        ({"event": "moonrise"}, "/solar/event", "dawn_civil"),
        ({"latitude": 90.1}, "/solar/latitude", "-90 to 90"),
        ({"longitude": -180.1}, "/solar/longitude", "-180 to 180"),
    ],
)
def test_a_place_or_an_event_that_is_none_is_refused_with_what_to_write(
    values: dict[str, Any], pointer: str, word: str
) -> None:
    with pytest.raises(InvalidRule) as caught:
        SolarRule(**({"event": "sunrise"} | BERLIN | values))  # type: ignore[arg-type]
    assert word in caught.value.detail
    assert caught.value.fields["errors"][0]["pointer"] == pointer
