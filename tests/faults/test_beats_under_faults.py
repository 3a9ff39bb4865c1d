"""Beats, database, broker and clock break in turn: every due instant runs once, none is left out.

Three real beats, an engine and a worker, with schedules of seconds. What was due follows from the
schedules' bounds; what ran is what the handlers wrote. The two are matched one to one.
"""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from typing import Any

import pytest

from tests.beats import match_firings
from tests.environment import RUN_DIRECTORY
from tests.faults.clockwork import PERIODS, PLAIN, Clockwork
from tests.faults.crashes import (
    crash_the_broker,
    crash_the_database,
    kill_the_broker,
    start_the_broker,
)

BEATS = [name for name in Clockwork.PARTS if name.startswith("beat")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How long a run is.

    Attributes:
        seconds: of the stepped clock, from the first due instant to the last.
        step: seconds that the clock is put forward in each round; with what a fault takes it stays
            below the 100 instants of a second that the schedules make up for.
        quiet: rounds between two faults.
    """

    seconds: int
    step: float
    quiet: int


def kill_a_beat(clockwork: Clockwork) -> None:
    """While it fires what the step before has made due."""
    name = clockwork.firing_beat()
    clockwork.kill_part(name)
    clockwork.start_part(name)


def kill_every_beat(clockwork: Clockwork) -> None:
    """The one that fires at first."""
    first = clockwork.firing_beat()
    for name in sorted(BEATS, key=lambda name: name != first):
        clockwork.kill_part(name)
    clockwork.step(5)
    for name in BEATS:
        clockwork.start_part(name)


def put_the_clock_back(clockwork: Clockwork) -> None:
    clockwork.step(-8)


def restart_the_database(clockwork: Clockwork) -> None:
    crash_the_database(clockwork)


def restart_the_broker(clockwork: Clockwork) -> None:
    crash_the_broker(clockwork)


def restart_the_database_without_a_broker(clockwork: Clockwork) -> None:
    """While messages wait for the broker."""
    kill_the_broker(clockwork)
    clockwork.step(5)
    crash_the_database(clockwork)
    start_the_broker(clockwork)


FAULTS: list[Callable[[Clockwork], None]] = [
    kill_a_beat,
    restart_the_database,
    kill_a_beat,
    put_the_clock_back,
    restart_the_broker,
    kill_a_beat,
    kill_every_beat,
    restart_the_database_without_a_broker,
]


@contextmanager
def running_clockwork(broker: Any) -> Iterator[Clockwork]:
    directory = RUN_DIRECTORY / f"clockwork-{'valkey' if broker is None else 'rabbitmq'}"
    directory.mkdir()
    directory.chmod(0o755)
    clockwork = Clockwork(directory, broker=broker)
    try:
        clockwork.start()
        yield clockwork
    finally:
        clockwork.stop()


def run_and_check(form: Form, broker: Any) -> None:
    """Go through the rounds, each with a step of the clock, then hold runs against instants."""
    with running_clockwork(broker) as clockwork:
        clockwork.make_schedules(seconds=form.seconds)
        faults, number = cycle(FAULTS), 0
        while clockwork.now() < clockwork.end_at or number < len(FAULTS):
            clockwork.step(form.step)
            if number % (form.quiet + 1) == 0:
                next(faults)(clockwork)
            clockwork.catch_up()
            number += 1
        clockwork.finish()
        check_every_instant(clockwork)
        codes = [clockwork.parts[name].stop() for name in BEATS]
    # one that the last fault killed may still be starting, and then has no handler yet
    assert set(codes) <= {0, -signal.SIGTERM}
    print(f"{number} rounds by {len(BEATS)} beats, {-(-number // (form.quiet + 1))} faults")


def check_every_instant(clockwork: Clockwork) -> None:
    """Match due instants to runs one to one; print how late the runs began."""
    ran: dict[str, list[datetime]] = {key: [] for key in PERIODS}
    late = []
    runs = clockwork.runs()
    for run in runs:
        assert len(set(run.epochs)) == len(run.epochs), run
        ran[run.schedule].append(run.nominal_at)
        late.append(run.began - clockwork.came_due(run.nominal_at))
    for key, found in ran.items():
        assert match_firings(clockwork.due(key), found) == {"missing": [], "extra": []}, key
        check_the_history(clockwork, key)
    check_the_history(clockwork, PLAIN)
    cuts = statistics.quantiles(late, n=100)
    print(
        f"{len(runs)} runs, none extra, none missing,"
        f" {sum(len(run.epochs) > 1 for run in runs)} of them again after a lost attempt;"
        f" late by p50 {cuts[49]:.3f} s, p99 {cuts[98]:.3f} s, most {max(late):.3f} s"
    )


def check_the_history(clockwork: Clockwork, key: str) -> None:
    """Match the rows of the instants and the events about them to what was due, too."""
    rows = clockwork.query(
        "SELECT f.nominal_at, f.outcome FROM taskmill_firing f JOIN taskmill_schedule s"
        " ON s.id = f.schedule_id WHERE s.key = %s",
        key,
    )
    assert {outcome for _, outcome in rows} == {"fired"}
    due = clockwork.due(key)
    assert match_firings(due, [at for at, _ in rows]) == {"missing": [], "extra": []}, key
    told = clockwork.query(
        "SELECT e.data ->> 'nominal_at' FROM taskmill_event e JOIN taskmill_schedule s"
        " ON s.id::text = e.subject WHERE s.key = %s AND e.type = 'schedule.fired'",
        key,
    )
    expected = [] if key == PLAIN else due
    told_of = [datetime.fromisoformat(at) for (at,) in told]
    assert match_firings(expected, told_of) == {"missing": [], "extra": []}, key


@pytest.mark.timeout(900)
def test_minutes_of_seconds_run_one_to_one_through_every_fault() -> None:
    run_and_check(Form(seconds=150, step=9, quiet=0), None)


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_a_compressed_hour_of_seconds_runs_one_to_one_through_every_fault(rabbitmq: Any) -> None:
    run_and_check(Form(seconds=3600, step=20, quiet=1), rabbitmq)
