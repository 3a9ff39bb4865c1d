"""While a beat makes up for an outage in portions, the present and edits have their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import tests.task_handlers  # noqa: F401 - registers the types
from scheduler.conf import SchedulerConf
from scheduler.models import Firing, Schedule
from scheduler.public import pause_schedule, update_schedule
from scheduler.ticking.clock import Clock
from tests.beats import (
    caller,
    database_now,
    every,
    instants,
    make_schedule,
    outcomes,
    shift_clock,
)

pytestmark = pytest.mark.django_db(transaction=True)

OUTAGE = 7200
SMALL = SchedulerConf(instants_most=200, batch=10)


@pytest.fixture
def backlog() -> Iterator[list[Schedule]]:
    """Schedules of each minute, the last one the last to be made up for, after two hours."""
    found = [make_schedule(every(60)) for _ in range(10)]
    shift_clock(OUTAGE)
    yield found
    shift_clock(0)


def not_made_up(backlog: list[Schedule]) -> list[Schedule]:
    return [one for one in backlog if not instants(one)]


def change_over_the_api(schedule: Schedule) -> None:
    update_schedule(caller=caller(), schedule_id=schedule.id, changes={"timing": every(2)})


def change_in_the_tables(schedule: Schedule) -> None:
    interval = type(schedule.periodic_task.interval).objects.create(every=2, period="seconds")
    table: Any = type(schedule.periodic_task)
    table.objects.filter(pk=schedule.periodic_task_id).update(interval=interval)


def test_what_an_outage_left_is_made_up_for_in_portions_the_oldest_first(
    backlog: list[Schedule],
) -> None:
    clock = Clock(SMALL)
    left = len(backlog)
    for _ in backlog:
        clock.tick()
        now_left = len(not_made_up(backlog))
        assert 0 <= left - now_left <= 2
        left = now_left
    assert left == 0
    assert {outcomes(one).count("fired") for one in backlog} == {1}
    assert {len(outcomes(one)) for one in backlog} == {OUTAGE // 60}


def test_instants_of_the_present_fire_before_the_old_ones_are_made_up_for(
    backlog: list[Schedule],
) -> None:
    live = make_schedule(every(60))
    clock = Clock(SMALL)
    clock.tick()
    shift_clock(OUTAGE + 61)
    clock.tick()
    assert outcomes(live) == ["fired"]
    assert not_made_up(backlog)


def test_the_old_ones_are_made_up_for_while_the_present_takes_whole_batches(
    backlog: list[Schedule],
) -> None:
    live = [make_schedule(every(60)) for _ in range(25)]
    shift_clock(OUTAGE + 61)
    Clock(SMALL).tick()
    assert sum(len(instants(one)) for one in live) == SMALL.batch
    assert 0 < len(not_made_up(backlog)) < len(backlog)


@pytest.mark.parametrize("change", [change_over_the_api, change_in_the_tables])
def test_an_edit_between_two_portions_is_in_force_in_the_next(
    backlog: list[Schedule], change: Callable[[Schedule], None]
) -> None:
    clock = Clock(SMALL)
    clock.tick()
    edited = not_made_up(backlog)[-1]
    edited_at = database_now()
    change(edited)
    clock.tick()
    shift_clock(OUTAGE + 3)
    clock.tick()
    fired = [at for at in instants(edited, "fired") if at > edited_at]
    assert [timedelta(seconds=2) <= at - edited_at < timedelta(seconds=3) for at in fired] == [True]
    assert not_made_up(backlog)


def test_an_edited_schedule_keeps_the_oldest_instant_that_was_due(
    backlog: list[Schedule],
) -> None:
    edited = backlog[-1]
    change_over_the_api(edited)
    shift_clock(OUTAGE + 3)
    Clock(SMALL).tick()
    first, *rest = instants(edited)
    assert first == edited.anchor_at + timedelta(seconds=60)
    assert len(rest) == 1


def test_a_pause_between_two_portions_is_in_force_in_the_next(backlog: list[Schedule]) -> None:
    clock = Clock(SMALL)
    clock.tick()
    paused = not_made_up(backlog)
    for one in paused:
        pause_schedule(caller=caller(), schedule_id=one.id, reason="repairs")
    for _ in backlog:
        clock.tick()
    assert not Firing.objects.filter(schedule__in=paused).exclude(outcome="skipped").exists()
    assert {len(outcomes(one)) for one in paused} == {OUTAGE // 60}
