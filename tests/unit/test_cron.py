"""Cron rules in time zones, held against a walk over every minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import zones
from scheduler.cron import CronRule, read_cron
from scheduler.errors import InvalidRule
from tests.minute_walker import walk_many

EXPRESSIONS = [
    "* * * * *", "0 * * * *", "30 * * * *", "*/20 * * * *", "*/7 * * * *", "* 2 * * *",
    "*/30 2 * * *", "15 */2 * * *", "30 2 * * *", "0 2 * * *", "59 1 * * *", "0 0 * * *",
    "0,30 2 * * *", "15,45 1-3 * * *", "0 2,3 * * *", "5 0 * * SUN", "30 2 L * *", "30 2 LW * *",
    "30 2 * * SUN#1", "30 2 * * 0L", "0 2 1-7 * SUN", "10 3 */2 * *", "0 1 * MAR,APR,OCT,NOV *",
    "30 23 * * 6", "0 12 30 12 *", "45 0-4/2 * * MON-FRI",
]  # fmt: skip

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
    "America/Santiago", "Asia/Kathmandu", "Pacific/Chatham", "America/Havana",
]  # fmt: skip


def due_between(rule: CronRule, after: datetime, until: datetime) -> list[datetime]:
    found = []
    for at in rule.after(after):
        if at > until:
            break
        found.append(at)
    return found


def windows(name: str, years: range, days: float) -> Iterator[tuple[datetime, datetime]]:
    zone = ZoneInfo(name)
    margin = timedelta(days=days)
    for year in years:
        yield (
            datetime(year, 2, 27, 11, tzinfo=UTC),
            datetime(year, 2, 27, 11, tzinfo=UTC) + 2 * margin,
        )
        for shift in zones.shifts_of_year(zone, year):
            yield shift.at - margin, shift.at + margin


def compare(name: str, years: range, days: float) -> int:
    zone, count = ZoneInfo(name), 0
    for after, until in windows(name, years, days):
        walked = walk_many(EXPRESSIONS, zone, after, until)
        for expression, expected in zip(EXPRESSIONS, walked, strict=True):
            found = due_between(read_cron(expression, name), after, until)
            assert found == expected, (expression, name, after.isoformat(), until.isoformat())
            count += len(expected)
    return count


@pytest.mark.parametrize("name", ZONES)
def test_rules_are_due_when_a_walk_over_every_minute_says_so(name: str) -> None:
    assert compare(name, range(2026, 2028), 1.2) > 1000


def test_a_zone_that_skipped_a_whole_day_fires_at_its_end() -> None:
    assert compare("Pacific/Apia", range(2011, 2012), 2.2) > 1000


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_rules_of_all_zones_and_many_years_agree_with_the_walk() -> None:
    counts = {
        name: compare(name, range(1990, 2038, 5), 1.1) for name in sorted(available_timezones())
    }
    print(f"{sum(counts.values())} instants of {len(counts)} zones agree")


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2027-03-28T00:00+00:00", "2027-03-28T01:00+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2027-10-31T00:00+00:00", "2027-10-31T00:30+00:00"),
        ("30 2 * * *", "Europe/Berlin", "2027-10-31T00:30+00:00", "2027-11-01T01:30+00:00"),
        ("0 2 29 2 *", "Europe/Berlin", "2025-01-01T00:00+00:00", "2028-02-29T01:00+00:00"),
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-02T15:00+00:00", "2027-10-02T15:30+00:00"),
        ("0 2 * * *", "Africa/Casablanca", "2027-02-06T12:00+00:00", "2027-02-07T01:00+00:00"),
        ("@daily", "Asia/Kolkata", "2027-02-06T12:00+00:00", "2027-02-06T18:30+00:00"),
        ("0 9 * * mon#2", "UTC", "2027-02-01T00:00+00:00", "2027-02-08T09:00+00:00"),
        ("0 9 L * *", "UTC", "2028-02-01T00:00+00:00", "2028-02-29T09:00+00:00"),
        ("0 0 1 1 *", "Pacific/Kiritimati", "1994-06-01T00:00+00:00", "1994-12-31T10:00+00:00"),
    ],
)
def test_known_instants(expression: str, zone: str, after: str, expected: str) -> None:
    found = next(read_cron(expression, zone).after(datetime.fromisoformat(after)))
    assert found == datetime.fromisoformat(expected)


def test_hourly_and_step_rules_fire_in_both_of_a_repeated_hour() -> None:
    after = datetime(2027, 10, 30, 23, 50, tzinfo=UTC)
    for expression, count in (("0 * * * *", 2), ("*/20 * * * *", 6), ("0 2 * * *", 1)):
        rule = read_cron(expression, "Europe/Berlin")
        found = due_between(rule, after, datetime(2027, 10, 31, 1, 59, tzinfo=UTC))
        assert len(found) == count, expression


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("0 0 31 2 *", "day 31 does not occur in February"),
        ("0 0 31 4,6 *", "day 31 does not occur in the months 4,6"),
        ("60 * * * *", "the minute '60' is not understood; write 0 to 59"),
        ("* 24 * * *", "the hour '24'"),
        ("* * 0 * *", "the day of month '0'"),
        ("* * * 13 *", "the month '13'"),
        ("* * * * MON#6", "the day of week 'MON#6'"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "this one has 6"),
        ("", "this one has 0"),
        ("*/0 * * * *", "the minute '*/0'"),
        ("* " * 300, "at most 400"),
        ("\x00 * * * *", "the minute"),
    ],
)
def test_what_is_not_understood_or_never_due_is_refused(expression: str, says: str) -> None:
    with pytest.raises(InvalidRule) as caught:
        read_cron(expression, "UTC")
    assert says in caught.value.detail
    assert caught.value.errors[0]["pointer"] == "/cron"


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../etc/passwd", "\x00", "Europe/", "x" * 999]
)
def test_unknown_zones_are_refused(name: str) -> None:
    with pytest.raises(InvalidRule, match="time zone"):
        read_cron("* * * * *", name)


field = st.text(alphabet="0123456789*/,-#LW MONSUNFEB²\x00", max_size=9)


@settings(max_examples=300, deadline=None)
@given(st.lists(field, min_size=5, max_size=5).map(" ".join))
def test_whatever_is_written_either_has_a_next_instant_or_is_refused(expression: str) -> None:
    try:
        rule = read_cron(expression, "Europe/Berlin")
    except InvalidRule:
        return
    assert next(rule.after(datetime(2027, 1, 1, tzinfo=UTC)), None) is not None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(ZONES),
    st.integers(0, 3 * 365 * 86_400_000_000),
)
def test_instants_grow_and_do_not_depend_on_where_the_search_began(
    expression: str, zone: str, microseconds: int
) -> None:
    after = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    rule = read_cron(expression, zone)
    found = list(islice(rule.after(after), 5))
    assert all(a < b for a, b in zip([after, *found], found, strict=False))
    for before, following in pairwise(found):
        assert next(rule.after(before)) == following
        assert next(rule.after(following - timedelta(microseconds=1))) == following
