"""Real beats over seconds while their PostgreSQL and their broker crash: every instant fired once.

On servers of their own. Besides Taskmill's tasks there is a plain Celery task, which needs the
broker to be fired.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasks_app.management.servers import Postgres, Valkey
from tests.beats import due_until, match_firings
from tests.environment import RUN_DIRECTORY
from tests.processes import ROOT, Process, wait_for

PERIODS = {"one": 1, "two": 2, "plain": 1}
MAKE_SCHEDULES = """
import django
django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from scheduler.models import Schedule
from scheduler.public import CatchUp, Policies, Timing, Wanted, create_schedule
from scheduler.ticking.changes import take_over_changes
from tasks_app.models import Tenant
from tasks_app.platform import Caller
tenant = Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})[0]
for key, seconds in {"one": 1, "two": 2}.items():
    create_schedule(
        caller=Caller(tenant_id=tenant.pk, actor="tests"),
        wanted=Wanted(
            key=key,
            task_type="tests.echo",
            timing=Timing(interval_seconds=seconds),
            policies=Policies(catch_up=CatchUp.ALL, catch_up_most=100),
            payload={},
        ),
    )
second = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="plain", task="celery.ping", interval=second)
take_over_changes()
Schedule.objects.filter(key="plain").update(catch_up="all", catch_up_most=100)
"""


class Clockwork:
    """Two beats, a database and a broker."""

    def __init__(self, directory: Path) -> None:
        self.postgres = Postgres(directory / "pg", directory / "run", log=directory / "pg.log")
        self.valkey = Valkey(
            directory / "valkey", directory / "run" / "valkey.sock", log=directory / "valkey.log"
        )
        self.beats: list[Process] = []

    def environment(self) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATABASE_URL": self.postgres.url("taskmill"),
            "BROKER_URL": f"redis+socket://{self.valkey.socket}",
            "REDIS_URL": f"unix://{self.valkey.socket}?db=1",
            "TASKMILL_HANDLER_MODULES": "tests.task_handlers",
        }

    def start(self) -> None:
        self.postgres.start()
        self.postgres.create_database("taskmill")
        self.valkey.start()
        for arguments in (("manage.py", "migrate", "--verbosity", "0"), ("-c", MAKE_SCHEDULES)):
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT, env=os.environ | self.environment() | {"PYTHONPATH": str(ROOT)},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
        command = [sys.executable, "-m", "celery", "-A", "config", "beat", "--pidfile="]
        for _ in range(2):
            self.beats.append(Process(command, name="beat", environment=self.environment()))

    def stop(self) -> None:
        for one in self.beats:
            if one.popen.poll() is None:
                one.kill()
        self.valkey.stop()
        self.postgres.stop()

    def query(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.postgres.url("taskmill"), autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def crash_postgres(self) -> None:
        """End it as a crash does, with recovery at its start."""
        assert self.postgres.process is not None
        self.postgres.process.send_signal(signal.SIGQUIT)
        self.postgres.process.wait(30)

    def crash_valkey(self) -> None:
        assert self.valkey.process is not None
        os.killpg(self.valkey.process.pid, signal.SIGKILL)
        self.valkey.process.wait(30)

    def fired(self) -> dict[str, list[datetime]]:
        """Give the fired instants by schedule."""
        found: dict[str, list[datetime]] = {key: [] for key in PERIODS}
        rows = self.query(
            "SELECT s.key, f.nominal_at FROM taskmill_firing f"
            " JOIN taskmill_schedule s ON s.id = f.schedule_id"
            " WHERE f.outcome = 'fired' AND s.key = ANY(%s)",
            list(PERIODS),
        )
        for key, at in rows:
            found[key].append(at)
        return found

    def wait_for_more(self, count: int, *keys: str) -> None:
        """Wait until each of these schedules was fired so many times more."""
        before = {key: len(instants) for key, instants in self.fired().items()}

        def has_more() -> bool:
            now = self.fired()
            return all(len(now[key]) >= before[key] + count for key in keys or PERIODS)

        try:
            wait_for(has_more, seconds=90)
        except AssertionError as error:
            tails = "\n".join(one.output()[-2000:] for one in self.beats)
            raise AssertionError(f"{error}\n{tails}") from error


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    directory = RUN_DIRECTORY / "clockwork"
    directory.mkdir()
    directory.chmod(0o755)
    one = Clockwork(directory)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def test_crashes_of_database_and_broker_leave_no_instant_out_and_fire_none_twice(
    clockwork: Clockwork,
) -> None:
    clockwork.wait_for_more(2)
    clockwork.crash_postgres()
    clockwork.postgres.start()
    clockwork.wait_for_more(2)
    clockwork.crash_valkey()
    clockwork.wait_for_more(2, "one", "two")  # Taskmill's tasks need no broker to be fired
    clockwork.crash_postgres()  # while messages wait for the broker
    clockwork.postgres.start()
    clockwork.valkey.start()
    clockwork.wait_for_more(2)
    check_every_instant(clockwork)
    assert [one.stop() for one in clockwork.beats] == [0, 0]


def check_every_instant(clockwork: Clockwork) -> None:
    """Stop the clock, let what waits for the broker go, and compare one to one."""
    clockwork.query("UPDATE django_celery_beat_periodictask SET enabled = false RETURNING 1")
    off = "SELECT count(*) FROM taskmill_schedule WHERE key = ANY(%s) AND status = 'active'"
    wait_for(lambda: clockwork.query(off, list(PERIODS)) == [(0,)], seconds=30)
    open_ones = "SELECT count(*) FROM taskmill_firing WHERE outcome = 'publishing'"
    wait_for(lambda: clockwork.query(open_ones) == [(0,)], seconds=60)
    anchors = dict(clockwork.query("SELECT key, anchor_at FROM taskmill_schedule"))
    for key, fired in clockwork.fired().items():
        due = due_until(anchors[key], max(fired), PERIODS[key])
        assert match_firings(due, fired) == {"missing": [], "extra": []}, key
        tasks = "SELECT count(*) FROM taskmill_task WHERE schedule = %s"
        events = "SELECT data FROM taskmill_event WHERE type = 'schedule.fired' AND subject = %s"
        named = "SELECT id::text FROM taskmill_schedule WHERE key = %s"
        [(schedule,)] = clockwork.query(named, key)
        told = [json.dumps(data["nominal_at"]) for (data,) in clockwork.query(events, schedule)]
        expected = 0 if key == "plain" else len(fired)
        assert clockwork.query(tasks, key) == [(expected,)]
        assert len(told) == len(set(told)) == expected
