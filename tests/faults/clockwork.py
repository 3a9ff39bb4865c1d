"""A platform with three beats, schedules of seconds, and a database clock that is stepped.

The clock of schedules is the database's: its offset is a setting of the server, so that a step
reaches every open connection of every process at once, and stays over a crash. What was due and
when it came due follows from the bounds of the schedules and the steps alone; nothing of the
product is asked.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg

from tests.beats import due_until
from tests.faults.platform import Platform
from tests.processes import wait_for

PERIODS = {"one": 1, "two": 2, "five": 5, "seven": 7, "thirty": 30, "sixty": 60}
PLAIN = "plain"
LEASE_SECONDS = 60
MAKING_SECONDS = 300
MAKE_PLAIN = """
import sys
from datetime import datetime
import django
django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask
start, end = (datetime.fromisoformat(word) for word in sys.argv[1:])
second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(
    name="plain", task="fault.plain", interval=second, start_time=start, expires=end
)
"""
_MAKE_UP_FOR_PLAIN = """
UPDATE taskmill_schedule SET catch_up = 'all', catch_up_most = 100 WHERE key = %s RETURNING 1
"""

_UNFINISHED = """
SELECT id::text FROM taskmill_task WHERE schedule = ANY(%(keys)s) AND finished_at IS NULL
"""
_UNDECIDED = f"""
SELECT key FROM taskmill_schedule WHERE key = ANY(%(keys)s) AND next_at <= %(until)s
UNION ALL {_UNFINISHED} AND state <> 'running'
    AND (metadata ->> 'nominal_at')::timestamptz <= %(until)s
"""


_FIRING = """
SELECT application_name FROM pg_stat_activity
WHERE application_name LIKE 'beat-%' AND xact_start IS NOT NULL AND query LIKE '%taskmill_firing%'
"""


class Run(NamedTuple):
    """What the handler of a schedule's task wrote first; `epochs` are all its attempts."""

    schedule: str
    nominal_at: datetime
    began: float
    epochs: list[int]


class Step(NamedTuple):
    """From `monotonic` on, until the next step, the clock goes on from `shows`."""

    monotonic: float
    shows: datetime


class Clockwork(Platform):
    """The platform; its lease is longer than any step, so that no live attempt loses its own."""

    PARTS = ("web", "engine-1", "worker-1", "beat-1", "beat-2", "beat-3")
    start_at: datetime
    end_at: datetime

    def environment(self) -> dict[str, str]:
        return super().environment() | {"TASKMILL_LEASE_SECONDS": str(LEASE_SECONDS)}

    def start(self) -> None:
        super().start()
        self.steps = [Step(time.monotonic(), datetime.now(UTC))]
        beats = "SELECT count(*) FROM taskmill_beat"
        wait_for(lambda: self.query(beats) == [(3,)], seconds=90, reason="a beat is missing")

    def make_schedules(self, *, seconds: int) -> None:
        """Make all schedules, due from a little later on for so many seconds; go on to that.

        Nothing is due of a schedule before it was made, so all have to be made by then.
        """
        self.start_at = self.now() + timedelta(seconds=MAKING_SECONDS)
        self.end_at = self.start_at + timedelta(seconds=seconds)
        for key, period in PERIODS.items():
            body = {
                "key": key,
                "type": "fault.instant",
                "payload": {"ledger": str(self.ledger), "schedule": key},
                "interval_seconds": period,
                "start_at": self.start_at.isoformat(),
                "end_at": self.end_at.isoformat(),
                "catch_up": "all",
                "catch_up_most": 100,
            }
            answer = self.request("POST", "/schedules", body)
            assert answer.status_code == 201, answer.text
        self.run("-c", MAKE_PLAIN, self.start_at.isoformat(), self.end_at.isoformat())
        wait_for(lambda: self.query(_MAKE_UP_FOR_PLAIN, PLAIN), reason="no beat takes it over")
        left = (self.start_at - self.now()).total_seconds()
        assert left > 0, "the schedules were made too slowly"
        self.step(left)

    def now(self) -> datetime:
        """Give what the clock shows."""
        at, shows = self.steps[-1]
        return shows + timedelta(seconds=time.monotonic() - at)

    def step(self, seconds: float) -> None:
        """Put the clock forward, or back where negative, for everybody at once."""
        shows = self.now() + timedelta(seconds=seconds)
        offset = (shows - datetime.now(UTC)).total_seconds()
        with psycopg.connect(self.postgres.url("taskmill"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET taskmill.clock_offset = '{offset} seconds'")
            connection.execute("SELECT pg_reload_conf()")
        self.steps.append(Step(time.monotonic(), shows))

    def firing_beat(self) -> str:
        """Give a beat that is in the middle of a transaction which fires."""
        with psycopg.connect(self.postgres.url("taskmill"), autocommit=True) as connection:

            def find() -> str:
                for _ in range(100):
                    if row := connection.execute(_FIRING).fetchone():
                        return str(row[0])
                return ""

            return wait_for(find, seconds=60, reason="no beat fires")

    def due(self, key: str) -> list[datetime]:
        """List what is due of a schedule from its start to its end."""
        period = PERIODS.get(key, 1)
        before = self.start_at - timedelta(seconds=period)
        return due_until(before, self.end_at - timedelta(microseconds=1), period)

    def came_due(self, instant: datetime) -> float:
        """Give when, on the monotonic clock, the stepped clock first showed an instant."""
        ends = [*(step.monotonic for step in self.steps[1:]), time.monotonic()]
        for (at, shows), end in zip(self.steps, ends, strict=True):
            moment = at + max(0.0, (instant - shows).total_seconds())
            if moment <= end:
                return moment
        raise AssertionError(f"the clock never showed {instant}")

    def runs(self) -> list[Run]:
        """Read the ledger: one run for each task, whose attempts are its own business."""
        found: dict[str, Run] = {}
        for line in self.ledger.read_text().splitlines():
            _, task, epoch, _, began, schedule, nominal_at = line.split()
            run = Run(schedule, datetime.fromisoformat(nominal_at), float(began), [])
            found.setdefault(task, run).epochs.append(int(epoch))
        return list(found.values())

    def catch_up(self) -> None:
        """Wait until what the clock shows by now is decided, and its tasks run."""
        self._wait(_UNDECIDED, until=self.now(), keys=[*PERIODS])

    def finish(self) -> None:
        """Wait until nothing is due, waits for the broker or runs any more.

        A run whose claim was committed in the very moment of a crash is nobody's; once all others
        have ended, the clock is put over its lease, so that it is taken for lost.
        """
        self._wait(_UNDECIDED, until=self.end_at, keys=[*PERIODS, PLAIN])
        self._wait("SELECT 1 FROM taskmill_firing WHERE outcome = 'publishing'")
        self._wait(f"{_UNFINISHED} AND state <> 'running'", keys=[*PERIODS])
        try:
            self._wait(_UNFINISHED, within=15, keys=[*PERIODS])
        except AssertionError:
            self.step(LEASE_SECONDS + 10)
            self._wait(_UNFINISHED, keys=[*PERIODS])

    def _wait(self, statement: str, *, within: float = 120, **values: Any) -> None:
        """Wait until a statement finds nothing."""

        def find() -> list[Any]:
            with psycopg.connect(self.postgres.url("taskmill"), autocommit=True) as connection:
                return connection.execute(statement, values).fetchall()

        try:
            wait_for(lambda: not find(), seconds=within)
        except AssertionError as error:
            raise AssertionError(f"{error} {find()[:9]}\n{self.tail()}") from error
