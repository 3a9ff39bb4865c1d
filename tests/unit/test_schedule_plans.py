"""Which due instants are fired, missed and skipped: pure decisions, against simple restatements."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.conf import SchedulerConf
from scheduler.decisions import Outcome, Overlap, Spread, Verdict, decide_overlap, lag_of
from scheduler.loading import Loaded
from scheduler.ticking.planning import make_plan
from tests.minute_walker import walk

CONF = SchedulerConf()
CRONS = ("*/20 * * * *", "0 * * * *", "30 2 * * *", "15,45 1-3 * * *", "* 2 * * *")
SHIFTS = {
    "Europe/Berlin": ((2027, 3, 28, 1), (2027, 10, 31, 1)),
    "America/New_York": ((2027, 3, 14, 7), (2027, 11, 7, 6)),
    "Australia/Lord_Howe": ((2027, 10, 2, 15), (2027, 4, 3, 15)),
    "UTC": ((2027, 1, 1, 0), (2027, 7, 1, 0)),
}
T = datetime(2027, 1, 1, tzinfo=UTC)


def row(cron: str, zone: str, began: datetime, **fields: Any) -> dict[str, Any]:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    unset = dict.fromkeys(("every", "period", "clocked_time", "event", "start_time", "expires"))
    return {
        **unset,
        **dict(zip(names, cron.split(), strict=True)),
        "timezone": zone,
        "id": uuid.UUID(int=7),
        "kind": "taskmill",
        "origin": "api",
        "status": "active",
        "status_reason": "",
        "one_off": False,
        "catch_up": "last",
        "catch_up_most": 10,
        "spread": "none",
        "spread_seconds": 0,
        "expire_seconds": None,
        "anchor_at": began,
        **fields,
    }


def expected_fired(due: list[datetime], now: datetime, policy: str, most: int) -> set[datetime]:
    in_time = {at for at in due if (now - at).total_seconds() <= CONF.grace_seconds}
    late = [at for at in due if at not in in_time]
    made_up: list[datetime] = []
    if policy == "all":
        made_up = late[-most:]
    if policy == "last" and not in_time:
        made_up = late[-1:]
    return in_time | set(made_up)


@settings(max_examples=60, deadline=None)
@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(sorted(SHIFTS)),
    which=st.integers(0, 1),
    gaps=st.lists(
        st.one_of(st.integers(1, 30), st.integers(60, 7200), st.integers(7200, 90_000)),
        min_size=1,
        max_size=5,
    ),
    policy=st.sampled_from(["skip", "last", "all"]),
    most=st.integers(1, 12),
)
def test_every_due_instant_is_decided_once_whatever_the_rule_the_outages_and_the_policy(
    cron: str, zone: str, which: int, gaps: list[int], policy: str, most: int
) -> None:
    began = datetime(*SHIFTS[zone][which], tzinfo=UTC) - timedelta(hours=20)
    found = row(cron, zone, began, catch_up=policy, catch_up_most=most)
    found["next_nominal_at"] = Loaded(found).timetable().next(began)
    now, seen = began, began
    decided: list[datetime] = []
    for gap in gaps:
        now += timedelta(seconds=gap)
        found["now"] = now
        if found["next_nominal_at"] > now:
            continue
        plan = make_plan(Loaded(dict(found)), CONF)
        due = walk(cron, ZoneInfo(zone), seen, now)
        assert [one.nominal_at for one in plan.verdicts] == due
        fired = {one.nominal_at for one in plan.verdicts if one.outcome is Outcome.FIRED}
        assert fired == expected_fired(due, now, policy, most)
        decided += due
        found["next_nominal_at"], seen = plan.next_nominal_at, now
        assert found["next_nominal_at"] > now
    assert decided == walk(cron, ZoneInfo(zone), began, seen)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40 * 86_400), st.sampled_from(["skip", "last", "all"]), st.integers(1, 100))
def test_however_long_the_outage_the_rows_are_bounded_and_in_the_end_the_policy_holds(
    outage: int, policy: str, most: int
) -> None:
    found = row("* * * * *", "UTC", T, catch_up=policy, catch_up_most=most)
    found |= {
        "now": T + timedelta(seconds=outage + 60),
        "next_nominal_at": T + timedelta(minutes=1),
    }
    rows: list[Verdict] = []
    rounds = 0
    while found["next_nominal_at"] <= found["now"]:
        plan = make_plan(Loaded(dict(found)), CONF)
        assert 1 <= len(plan.verdicts) <= CONF.instants_most
        rows += plan.verdicts
        found["next_nominal_at"] = plan.next_nominal_at
        rounds += 1
        assert rounds < 10
    due = [T + timedelta(minutes=n) for n in range(1, (outage + 60) // 60 + 1)]
    covered = {one.nominal_at: one.covers_until or one.nominal_at for one in rows}
    assert all(any(a <= at <= b for a, b in covered.items()) for at in due[:3] + due[-3:])
    fired = {one.nominal_at for one in rows if one.outcome is Outcome.FIRED}
    assert fired == expected_fired(due, found["now"], policy, most)


@pytest.mark.parametrize(
    ("policy", "live", "waiting", "outcomes"),
    [
        (Overlap.ALLOW, 3, 0, "fired fired"),
        (Overlap.SKIP, 0, 0, "fired skipped"),
        (Overlap.SKIP, 1, 0, "skipped skipped"),
        (Overlap.QUEUE_ONE, 0, 0, "fired waiting"),
        (Overlap.QUEUE_ONE, 1, 0, "waiting skipped"),
        (Overlap.QUEUE_ONE, 1, 1, "skipped skipped"),
        (Overlap.QUEUE_ONE, 0, 1, "skipped skipped"),
        (Overlap.CANCEL_PREVIOUS, 1, 0, "skipped fired"),
    ],
)
def test_two_instants_beside_unfinished_tasks(
    policy: Overlap, live: int, waiting: int, outcomes: str
) -> None:
    asked = [Verdict(nominal_at=T + timedelta(seconds=n), outcome=Outcome.FIRED) for n in (1, 2)]
    found = decide_overlap(asked, policy=policy, live=live, waiting=waiting)
    assert [one.outcome.value for one in found] == outcomes.split()


@given(st.integers(0, 86_400), st.text(max_size=9), st.integers(0, 10**6))
def test_a_lag_lies_in_its_window_and_is_the_same_wherever_it_is_computed(
    window: int, key: str, second: int
) -> None:
    at = T + timedelta(seconds=second)
    for spread in Spread:
        lag = lag_of(spread, window, key=key, nominal_at=at)
        assert timedelta() <= lag <= timedelta(seconds=window)
        assert lag == lag_of(spread, window, key=key, nominal_at=at)
    assert lag_of(Spread.NONE, window, key=key, nominal_at=at) == timedelta()
