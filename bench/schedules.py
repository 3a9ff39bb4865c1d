"""How long a tick takes beside many schedules, and what it costs: `python -m bench.schedules`.

Starts a PostgreSQL of its own, makes the schedules through the service, and lets one beat tick with
the database's clock shifted by a minute each time, so that all, some or none are due. Then the
clock of a beat in a process of its own jumps over an hour, again and again, and each time two
schedules are edited while it works on what came due: a daily one, and one that is due itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil

HOUR = 3600
DUE = "SELECT count(*) FROM taskmill_schedule WHERE next_at <= taskmill_now()"
LATE = "SELECT count(*) FROM taskmill_schedule WHERE next_at <= taskmill_now() - interval '30 s'"
CRONS = ("* * * * *", "*/5 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * MON-FRI")


def main() -> int:
    """Measure and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=5000)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--edits", type=int, default=20)
    parser.add_argument("--outage-hours", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskmill-bench-") as directory:
        var = Path(directory)
        var.chmod(0o755)
        os.environ |= {
            "TASKMILL_VAR": directory,
            "SECRET_KEY": "bench",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "TASKMILL_LOG_LEVEL": "ERROR",
        }
        with _database(var):
            _measure(options.schedules, options.minutes)
            _measure_edits(options.edits, options.outage_hours)
    return 0


@contextmanager
def _database(var: Path) -> Iterator[None]:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from tasks_app.management.servers import Postgres

    server = Postgres(var / "postgres", var / "run", log=var / "postgres.log")
    server.start(options=["max_connections=50"])
    try:
        server.create_database("taskmill")
        call_command("migrate", interactive=False, verbosity=0)
        yield
    finally:
        connections["default"].close()
        connections["default"].close_pool()  # type: ignore[attr-defined]  # PostgreSQL's has one
        server.stop()


def _measure(count: int, minutes: int) -> None:
    from scheduler.conf import SchedulerConf
    from scheduler.ticking.clock import Clock

    began = perf_counter()
    _make(count)
    print(f"{count} schedules made in {perf_counter() - began:.1f} s")
    clock = Clock(SchedulerConf())
    _drain(clock)
    process = psutil.Process()
    before = process.memory_info().rss
    times, statements, fired = [], [], 0
    for minute in range(1, minutes + 1):
        _shift(60 * minute)
        for seconds, asked, more in _ticks(clock):
            times.append(seconds)
            statements.append(asked)
            fired += more
    grown = (process.memory_info().rss - before) / 2**20
    idle = [next(iter(_ticks(clock)))[0] for _ in range(50)]
    cuts = statistics.quantiles(times, n=100)
    print(
        f"{fired} tasks fired in {minutes} minutes by {len(times)} ticks:"
        f" {sum(times) / max(fired, 1) * 1000:.2f} ms a task"
    )
    print(f"a tick: p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms")
    print(f"statements in a tick: at most {max(statements)}")
    print(f"a tick with nothing due: p50 {statistics.median(idle) * 1000:.2f} ms")
    print(f"memory: {process.memory_info().rss / 2**20:.0f} MiB, grown by {grown:.1f} MiB")


def _make(count: int) -> None:
    from scheduler.public import Policies, Timing, Wanted, create_schedule
    from tasks_app.models import Tenant
    from tasks_app.platform import Caller

    tenant = Tenant.objects.create(slug="default", name="Default")
    caller = Caller(tenant_id=tenant.id, actor="bench")
    for number in range(count):
        timing = Timing(cron=CRONS[number % len(CRONS)], timezone="Europe/Berlin")
        wanted = Wanted(
            key=f"schedule-{number}",
            task_type="demo.echo",
            timing=timing,
            policies=Policies(),
            payload={"n": number},
        )
        create_schedule(caller=caller, wanted=wanted)


def _drain(clock: Any) -> None:
    while any(more for _, _, more in _ticks(clock)):
        pass


def _ticks(clock: Any) -> Iterator[tuple[float, int, int]]:
    """Tick until nothing is due: `(seconds, statements, tasks)` of each tick."""
    from scheduler.models import Firing

    while True:
        before = Firing.objects.count()
        seconds, asked, wait = _timed(clock.tick)
        yield seconds, asked, Firing.objects.count() - before
        if wait > 0:
            return


def _timed(tick: Callable[[], float]) -> tuple[float, int, float]:
    from django.db import connection

    asked = 0

    def count(execute: Any, *rest: Any) -> Any:
        nonlocal asked
        asked += 1
        return execute(*rest)

    with connection.execute_wrapper(count):
        began = perf_counter()
        wait = tick()
        return perf_counter() - began, asked, wait


def _measure_edits(count: int, hours: float) -> None:
    """Edit schedules while a beat makes up for an outage; a new timing is due after a second."""
    command = [sys.executable, "-m", "celery", "-A", "config", "beat", "--pidfile="]
    beat = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waits: dict[str, list[float]] = {"30 2 * * *": [], "* * * * *": []}
    behind, making_up = [], []
    try:
        _wait(lambda: _ask("SELECT count(*) > 1 FROM taskmill_beat"))
        for number in range(1, count + 1):
            began = perf_counter()
            _shift_for_all(int(hours * HOUR * number))
            behind.append(_ask(DUE))
            for cron, found in waits.items():
                found.append(_edit(CRONS.index(cron) + len(CRONS) * number, cron))
            _wait(lambda: not _ask(LATE))
            making_up.append(perf_counter() - began)
        memory = psutil.Process(beat.pid).memory_info().rss / 2**20
    finally:
        beat.terminate()
        beat.wait(30)
    print(
        f"{count} times a beat made up for {hours:g} h of {max(behind)} schedules, in"
        f" {statistics.median(making_up):.1f} s; in force after, of which 1 s is due:"
    )
    for cron, found in waits.items():
        print(
            f"  an edit of {cron!r}: p50 {statistics.median(found):.2f} s, most {max(found):.2f} s"
        )
    print(f"memory of a beat's process: {memory:.0f} MiB")


def _edit(number: int, cron: str) -> float:
    """Make a schedule one of each second; gives the seconds until an instant of that is fired."""
    from scheduler.models import Firing, Schedule
    from scheduler.public import Timing, update_schedule
    from tasks_app.platform import Caller

    edited = Schedule.objects.get(key=f"schedule-{number}")
    caller = Caller(tenant_id=edited.tenant_id, actor="bench")
    began, edited_at = perf_counter(), _ask("SELECT taskmill_now()")
    changes: dict[str, Any] = {"timing": Timing(interval_seconds=1)}
    update_schedule(caller=caller, schedule_id=edited.id, changes=changes)
    _wait(Firing.objects.filter(schedule=edited, nominal_at__gt=edited_at).exists)
    seconds = perf_counter() - began
    changes = {"timing": Timing(cron=cron, timezone="Europe/Berlin")}
    update_schedule(caller=caller, schedule_id=edited.id, changes=changes)
    return seconds


def _ask(question: str) -> Any:
    """Ask the database for one value."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()[0]


def _wait(what: Callable[[], object]) -> None:
    end = perf_counter() + 300
    while not what():
        if perf_counter() > end:
            raise RuntimeError("the beat does not get on")
        sleep(0.01)


def _shift_for_all(seconds: int) -> None:
    """Shift the clock of every connection, those of the beat's process too."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("RESET taskmill.clock_offset")
        cursor.execute(f"ALTER SYSTEM SET taskmill.clock_offset = '{seconds} s'")
        cursor.execute("SELECT pg_reload_conf()")


def _shift(seconds: int) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('taskmill.clock_offset', %s, false)", [f"{seconds} s"])


if __name__ == "__main__":
    sys.exit(main())
