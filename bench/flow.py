"""What limits cost: `python -m bench.flow [--quick] [--waiting] [--results DIRECTORY]`.

One PostgreSQL with everything durable on, and the real dispatch loop with a publisher that confirms
at once. Each task is handed out, claimed and finished in this process, one after the other, without
Celery: what is measured is the protocol. The kinds of load take turns, several times over; a ratio
is the median of those within a turn, between neighbours in time. Beside the rate stands the
processor time per task of this process and its PostgreSQL backend, which other work on the machine
disturbs less. The limits are never full, so that the cost of deciding is seen and not that of
waiting. See docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time, strftime
from typing import Any

import psycopg

from bench.waiting import measure as measure_waiting
from tests.environment import RUN_DIRECTORY

RESULTS = Path(__file__).resolve().parent / "results"
TYPE, RULED_TYPE, QUEUE = "bench.flow", "bench.ruled", "flow"


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        tasks: handed out and finished in each turn of a kind of load.
        settle_seconds: that the loop leads beside the parked tasks before anything is measured.
        keys: that have tasks parked, in the last kind.
        parked: tasks of each of them.
    """

    tasks: int = 1000
    turns: int = 25
    settle_seconds: float = 20.0
    keys: int = 10_000
    parked: int = 100


WAITING, WAITING_QUICK = (10_000, 1_000_000), (1_500, 3_000)
DATABASES = ("taskmill", "beside")
QUICK = Sizes(tasks=100, turns=1, settle_seconds=0.1, keys=50, parked=3)


@dataclass(frozen=True)
class Load:
    """A kind of load: tasks of a type, with one of 100 keys or none."""

    name: str
    type: str = TYPE
    has_key: bool = False


LOADS = (
    Load("no rule"),
    Load("one rule: a key's slots", has_key=True),
    Load("three rules: slots of key and type, rate of type", RULED_TYPE, has_key=True),
)
BESIDE = Load("no rule, beside {keys} keys with {parked} parked each")


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--parked", type=int, help="tasks parked of each key")
    parser.add_argument("--waiting", action="store_true", help="what explaining costs, instead")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    if options.parked:
        sizes = replace(sizes, parked=options.parked)
    with _databases() as urls:
        if options.waiting:
            measure_waiting(WAITING_QUICK if options.quick else WAITING, DATABASES)
            return 0
        runs = _measure(sizes, urls)
    _report(runs, sizes, options.results)
    return 0


@contextmanager
def _databases() -> Iterator[tuple[str, str]]:
    """Give two alike databases of one server: that of the last kind has the parked tasks."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "TASKMILL_LOG_LEVEL": "ERROR"}
    os.environ |= {"TASKMILL_VAR": str(RUN_DIRECTORY), "SECRET_KEY": "bench"}
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connections

    from tasks_app.management.servers import Postgres
    from tasks_app.models import Tenant

    server = Postgres(RUN_DIRECTORY / "postgres", RUN_DIRECTORY / "run", log=RUN_DIRECTORY / "log")
    server.start()
    try:
        server.create_database("taskmill")
        call_command("migrate", interactive=False, verbosity=0)
        Tenant.objects.create(slug="bench", name="bench")
        connections["default"].close()
        connections["default"].close_pool()  # type: ignore[attr-defined]  # PostgreSQL's has one
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE beside TEMPLATE taskmill")
        yield server.url(DATABASES[0]), server.url(DATABASES[1])
    finally:
        server.stop()
        shutil.rmtree(RUN_DIRECTORY, ignore_errors=True)


class _Confirming:
    """A publisher whose broker takes everything at once."""

    def open(self) -> None:
        """Do nothing."""

    def publish(self, bundles: Sequence[Any]) -> Any:
        """Confirm every hint."""
        from tasks_app.dispatch.publish import Published

        return Published(confirmed=[task for one in bundles for task in one.tasks])

    def close(self) -> None:
        """Do nothing."""


class _Drain:
    """The dispatch loop and one worker, both in this process."""

    def __init__(self, url: str) -> None:
        from tasks_app.conf import conf
        from tasks_app.dispatch.loop import DispatchWork

        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=1)
        found = self.connection.execute("SELECT id FROM taskmill_tenant").fetchone()
        assert found is not None
        self.tenant = found[0]
        self.work = DispatchWork(_Confirming(), conf())

    def submit(self, load: Load, count: int) -> None:
        """Make the backlog."""
        from tasks_app import transitions

        new = [
            transitions.NewTask(
                tenant_id=self.tenant,
                type=load.type,
                queue=QUEUE,
                payload={},
                max_retry=0,
                process_timeout=60,
                concurrency_key=f"busy-{number % 100}" if load.has_key else None,
                max_concurrency=1000 if load.has_key else None,
            )
            for number in range(count)
        ]
        for start in range(0, count, 1000):
            transitions.insert_tasks(self.connection.cursor(), new[start : start + 1000])
        self.connection.execute("ANALYZE taskmill_task")

    def run(self, count: int) -> tuple[float, float]:
        """Hand out, claim and finish so many tasks; gives tasks per second, and seconds of
        processor time of each.
        """
        began, used, done = perf_counter(), self._processor_seconds(), 0
        while done < count:
            self._see_worker()
            self._round()
            done += self._finish_all()
        seconds, processor = perf_counter() - began, self._processor_seconds() - used
        return count / seconds, processor / count

    def _processor_seconds(self) -> float:
        backend = Path(f"/proc/{self.connection.info.backend_pid}/schedstat").read_text()
        return process_time() + int(backend.split()[0]) / 1e9

    def _see_worker(self) -> None:
        from tasks_app import transitions

        transitions.report_worker(
            self.connection.cursor(),
            worker_id="bench",
            name="bench",
            queues=(QUEUE,),
            slots=16,
            busy=0,
            memory_bytes=0,
            is_stopping=False,
        )

    def _round(self) -> None:
        from tasks_app import leadership
        from tasks_app.loops import Health, Stop, Turn

        lead = leadership.hold(
            self.connection.cursor(), loop="dispatch", holder="bench", lease_seconds=600
        )
        assert lead is not None
        stop = Stop()
        turn = Turn(connection=self.connection, leadership=lead, stop=stop, health=Health(5.0))
        self.work.run_once(turn)
        stop.close()

    def _finish_all(self) -> int:
        from tasks_app import transitions

        cursor = self.connection.cursor()
        cursor.execute(
            "SELECT id, dispatch_seq FROM taskmill_task WHERE state = 'dispatched' AND queue = %s",
            [QUEUE],
        )
        hints = cursor.fetchall()
        claims = transitions.claim(cursor, hints, owner="bench", worker="bench:1", lease_seconds=60)
        ended = [
            transitions.Success(id=claim.id, epoch=claim.epoch, result="null") for claim in claims
        ]
        transitions.succeed(cursor, ended)
        return len(ended)

    def park(self, sizes: Sizes) -> None:
        """Make the keys that are full: one task holds each, the others are parked."""
        for state, blocked, count in (
            ("blocked", "'slots/key/' || %(tenant)s || '/key-' || k", sizes.parked),
            ("dispatched", "NULL", 1),
        ):
            self.connection.execute(
                _PARKED.format(state=state, blocked=blocked),
                {"tenant": self.tenant, "keys": sizes.keys, "parked": count},
            )
        self.connection.execute("VACUUM ANALYZE taskmill_task")

    def settle(self, seconds: float) -> None:
        """Let the loop do what only a new leader does: look at all rules in haste."""
        end = perf_counter() + seconds
        while perf_counter() < end:
            self._see_worker()
            self._round()


def _nothing() -> None:
    """Do nothing."""


_PARKED = """
INSERT INTO taskmill_task (id, tenant_id, type, queue, priority, state, version, event_seq, payload,
    metadata, tags, progress, progress_message, max_retry, attempt, attempt_base, epoch, rescues,
    interrupts, sweeps, hand_backs, dispatch_seq, created_at, updated_at, run_at, queued_at,
    dispatched_at, process_timeout, worker, cancel_requested_by, cancel_reason, traceparent,
    submitted_by, concurrency_key, max_concurrency, blocked_by)
SELECT gen_random_uuid(), %(tenant)s, 'bench.flow', 'parked', 0, '{state}', 1, 1, '{{}}', '{{}}',
    '{{}}', 0, '', 3, 0, 0, 0, 0, 0, 0, 0, 1, now(), now(), now(), now(), now(), 60, '', '', '', '',
    '', 'key-' || k, 1, {blocked}
FROM generate_series(1, %(keys)s) k, generate_series(1, %(parked)s)
"""


Run = tuple[float, float]


def _measure(sizes: Sizes, urls: tuple[str, str]) -> dict[str, list[Run]]:
    from tasks_app import registry

    registry.handler(RULED_TYPE, concurrency=100_000, rate="1000000/s")(_nothing)
    drain, beside = (_Drain(url) for url in urls)
    beside.park(sizes)
    beside.settle(sizes.settle_seconds)
    name = BESIDE.name.format(keys=sizes.keys, parked=sizes.parked)
    turns = [(load, load.name, drain) for load in LOADS] + [(BESIDE, name, beside)]
    runs: dict[str, list[Run]] = {name: [] for _, name, _ in turns}
    for number in range(sizes.turns + 1):
        for load, title, one in turns:
            one.submit(load, sizes.tasks)
            run = one.run(sizes.tasks)
            if number:  # the first warms up
                runs[title].append(run)
    for one in (drain, beside):
        one.connection.close()
    return runs


def _report(runs: dict[str, list[Run]], sizes: Sizes, directory: Path) -> None:
    load = os.getloadavg()[0]
    print(f"{sizes.turns} turns of {sizes.tasks} tasks each; load average {load:.1f}")
    print("| load | tasks/s | of the rule-free rate | CPU us per task | of the rule-free |")
    print("|---|---|---|---|---|")
    free = runs[LOADS[0].name]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"flow-{strftime('%Y%m%d-%H%M%S')}.jsonl").open("w") as file:
        for name, found in runs.items():
            rate, cost = _medians(found)
            ratio, cost_ratio = _medians(
                [
                    (one[0] / other[0], one[1] / other[1])
                    for one, other in zip(found, free, strict=True)
                ]
            )
            shown = f"{cost * 1e6:.0f} | {cost_ratio:.2f}"
            print(f"| {name} | {rate:.0f} | {ratio:.2f} | {shown} |")
            row = {"load": name, "rate": rate, "ratio": ratio, "cost": cost}
            row |= {"cost_ratio": cost_ratio}
            row |= {"rates": [rate for rate, _ in found], "costs": [cost for _, cost in found]}
            file.write(json.dumps(asdict(sizes) | row) + "\n")


def _medians(runs: Sequence[Run]) -> Run:
    rates, costs = zip(*runs, strict=True)
    return statistics.median(rates), statistics.median(costs)


if __name__ == "__main__":
    sys.exit(main())
