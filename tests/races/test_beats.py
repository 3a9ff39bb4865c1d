"""Beats that die between any two statements: each due instant is fired once, none is left out.

`tests/faults/test_beats_under_faults.py` does it to real processes.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

import tests.task_handlers  # noqa: F401 - registers the types
from scheduler.models import Firing, Schedule
from scheduler.ticking import firing
from scheduler.ticking.clock import Clock
from tasks_app.models import Task
from tests.beats import (
    CONF,
    clock_shifted,
    database_now,
    due_until,
    every,
    make_schedule,
    match_firings,
    shift_clock,
    tick,
)

pytestmark = pytest.mark.django_db(transaction=True)

PERIODS = (1, 2, 5, 7, 30, 60)


class Killed(BaseException):
    """Stands for a process that ends between two statements."""


class Beats:
    """Beats in threads, each with a connection of its own and a shifted clock that all share.

    A round is a second of the compressed time: every beat ticks in it, at the same moment.
    """

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.faults: list[BaseException] = []
        self.kills = 0
        self.count = count

    def run(self, steps: list[float], is_killed: Callable[[int, int], bool]) -> None:
        threads = [
            threading.Thread(target=self._beat, args=(number, steps, is_killed))
            for number in range(self.count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert not self.faults, self.faults

    def _beat(self, number: int, steps: list[float], is_killed: Callable[[int, int], bool]) -> None:
        try:
            clock = Clock(CONF)
            for step, shift in enumerate(steps):
                self.barrier.wait(60)
                shift_clock(shift)
                if is_killed(number, step):
                    self._tick_and_die(clock, step)
                    clock = Clock(CONF)
                else:
                    clock.tick()
        except BaseException as fault:  # noqa: BLE001 - shown by the test
            self.faults.append(fault)
            self.barrier.abort()
        finally:
            shift_clock(0)
            connection.close()

    def _tick_and_die(self, clock: Clock, step: int) -> None:
        """Die after the n-th statement of a tick: the open transaction is rolled back."""
        left = step % 12 + 1

        def die(execute: Any, sql: str, *rest: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                self.kills += 1
                raise Killed
            return execute(sql, *rest)

        try:
            with connection.execute_wrapper(die):
                clock.tick()
        except Killed:
            shift_clock(0)  # or the pool would hand a connection on whose clock is ahead
            connection.close()


def test_three_beats_that_die_between_any_two_statements_fire_an_hour_one_to_one() -> None:
    schedules = [
        (make_schedule(every(period), catch_up="all", catch_up_most=100), period)
        for period in PERIODS
    ]
    began = database_now()
    crowd = Beats(3)
    # 15 s of the hour a round, so that even some rounds in a row whose beat dies with all rows
    # locked leave less than the 100 instants of the catch-up; now and then the clock is put back
    shifts = [15.0 * step - (45 if step % 13 == 12 else 0) for step in range(1, 246)]
    crowd.run(shifts, lambda number, step: step % 4 == number and step < 235)
    assert crowd.kills > 20
    end = began + timedelta(seconds=3600)
    late: list[float] = []
    for schedule, period in schedules:
        rows = list(Firing.objects.filter(schedule=schedule, outcome="fired"))
        due = due_until(schedule.anchor_at, end, period)
        fired = [row.nominal_at for row in rows if row.nominal_at <= end]
        assert match_firings(due, fired) == {"missing": [], "extra": []}
        tasks = Task.objects.filter(schedule=schedule.key)
        assert tasks.count() == len(rows) == len({row.task_id for row in rows})
        late += [(row.fired_at - row.nominal_at).total_seconds() for row in rows]
    cuts = statistics.quantiles(late, n=100)
    print(
        f"{len(late)} firings by 3 beats, {crowd.kills} deaths: lateness (rounds of 15 s)"
        f" p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s"
    )


def test_the_unique_instant_refuses_a_second_firing_even_where_the_row_says_it_is_due() -> None:
    schedule = make_schedule(every(60), catch_up="all")
    known = (schedule.next_nominal_at, schedule.next_at)
    with clock_shifted(61):
        tick()
        Schedule.objects.filter(id=schedule.id).update(next_nominal_at=known[0], next_at=known[1])
        tick()
    assert Firing.objects.filter(schedule=schedule).count() == 1
    assert Task.objects.filter(schedule=schedule.key).count() == 1


def test_a_firing_and_its_task_commit_together_or_not_at_all() -> None:
    schedule = make_schedule(every(60))
    with clock_shifted(61):
        with transaction.atomic():
            firing.fire_in_time(CONF)
            assert Task.objects.filter(schedule=schedule.key).exists()
            transaction.set_rollback(True)
        assert not Task.objects.filter(schedule=schedule.key).exists()
        assert not Firing.objects.filter(schedule=schedule).exists()
        tick()
    assert Firing.objects.filter(schedule=schedule, outcome="fired").count() == 1


def test_a_beat_does_not_wait_for_a_schedule_that_somebody_holds() -> None:
    held, free = make_schedule(every(60)), make_schedule(every(60))
    with ExitStack() as stack:
        stack.enter_context(transaction.atomic())
        Schedule.objects.select_for_update().get(id=held.id)
        done = threading.Event()

        def other() -> None:
            with clock_shifted(61):
                tick()
            done.set()
            connection.close()

        thread = threading.Thread(target=other)
        thread.start()
        assert done.wait(20)
        thread.join(20)
    assert Firing.objects.filter(schedule=free).count() == 1
    assert not Firing.objects.filter(schedule=held).exists()
