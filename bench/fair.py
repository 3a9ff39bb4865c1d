"""What a noisy tenant costs a quiet one: `python -m bench.fair [--quick] [--results DIRECTORY]`.

One PostgreSQL with everything durable on, Valkey, the real engine and a real worker. The noisy
tenant has a backlog that outlasts the run. The quiet tenant submits the same load in turns: alone
(the noisy one's queue is paused); alone with as many more tasks of its own under way as there are
slots, so that these are as busy and nothing waits for shares; beside the noisy one, as queues are
without any setting; and beside it where that may hold all slots (`max_share` 100). Waits are from
ready to start, by the database's clock; a ratio is within one run. Tasks sleep, so that slots are
short and not the processor. See docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep, strftime
from typing import Any

import psycopg

from bench.processes import Process, run_command, wait_until
from bench.systems import environment
from tests.environment import RUN_DIRECTORY

RESULTS = Path(__file__).resolve().parent / "results"
ALONE, BESIDE = "alone", "shared"
KINDS = ("alone", "own", "beside", "full")
TITLES = ("alone", "with own load", "beside", "beside, no slot kept free")


@dataclass(frozen=True)
class Load:
    """What the quiet tenant submits: so many tasks at once, so many times."""

    name: str
    tasks: int
    times: int
    every_seconds: float


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        waiting: tasks of the noisy tenant.
        nap_seconds: that each task takes.
    """

    waiting: int = 100_000
    slots: int = 8
    nap_seconds: float = 0.1
    rounds: int = 3
    loads: tuple[Load, ...] = (
        Load("batches of 24", 24, 10, 1.5),
        Load("single tasks", 1, 60, 0.25),
    )


QUICK = Sizes(
    waiting=2_000,
    slots=2,
    nap_seconds=0.05,
    rounds=1,
    loads=(Load("batches of 4", 4, 2, 0.4), Load("single tasks", 1, 3, 0.1)),
)

_BACKLOG = """
INSERT INTO taskmill_task (id, tenant_id, type, queue, priority, state, version, event_seq, payload,
    metadata, tags, progress, progress_message, max_retry, attempt, attempt_base, epoch, rescues,
    interrupts, sweeps, hand_backs, dispatch_seq, created_at, updated_at, run_at, queued_at,
    process_timeout, worker, cancel_requested_by, cancel_reason, traceparent, submitted_by)
SELECT gen_random_uuid(), %(tenant)s, 'bench.nap', %(queue)s, 0, 'queued', 1, 1,
    jsonb_build_object('seconds', %(nap)s::float8), '{}', '{}', 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0,
    now(), now(), now(), now(), 60, '', '', '', '', '' FROM generate_series(1, %(waiting)s)
"""
_WAITS = """
SELECT extract(epoch FROM started_at - queued_at)::float8,
    extract(epoch FROM dispatched_at - queued_at)::float8 FROM taskmill_task
WHERE id = ANY(%(ids)s) AND finished_at IS NOT NULL
"""
_UNFINISHED = "SELECT id FROM taskmill_task WHERE id = ANY(%(ids)s) AND finished_at IS NULL"
_STARTED = "SELECT count(*) FROM taskmill_task WHERE tenant_id = %(noisy)s AND state <> 'queued'"


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    with _platform(sizes) as bench:
        rows = bench.measure(sizes)
    _report(rows, sizes, options.results)
    return 0


@contextmanager
def _platform(sizes: Sizes) -> Iterator[_Bench]:
    """The servers, an engine, a worker, two tenants, and the backlog of one of them."""
    with ExitStack() as stack:
        env = _start_servers(stack)
        os.environ |= env
        import django

        django.setup()
        run_command(["manage.py", "migrate", "--verbosity", "0"], env=env)
        bench = _Bench(env["DATABASE_URL"])
        stack.callback(bench.connection.close)
        bench.fill(sizes)
        worker = f"manage.py worker -Q {ALONE},{BESIDE} --concurrency={sizes.slots}"
        for name, words in (("engine", "manage.py engine"), ("worker", worker)):
            process = Process(
                name, [sys.executable, *words.split()], env=env, log=RUN_DIRECTORY / f"{name}.log"
            )
            stack.callback(process.stop)
        wait_until("the first start of the noisy tenant", bench.noisy_started, seconds=120)
        yield bench


def _start_servers(stack: ExitStack) -> dict[str, str]:
    from tasks_app.management.servers import Postgres, Valkey

    sockets = RUN_DIRECTORY / "run"
    postgres = Postgres(RUN_DIRECTORY / "pg", sockets, log=RUN_DIRECTORY / "pg.log")
    valkey = Valkey(
        RUN_DIRECTORY / "valkey", sockets / "valkey.sock", log=RUN_DIRECTORY / "valkey.log"
    )
    for server in (postgres, valkey):
        server.start()
        stack.callback(server.stop)
    postgres.create_database("taskmill")
    return environment(
        DJANGO_SETTINGS_MODULE="config.settings",
        SECRET_KEY="bench-only-" + "x" * 50,
        TASKMILL_VAR=str(RUN_DIRECTORY),
        DATABASE_URL=postgres.url("taskmill"),
        BROKER_URL=f"redis+socket://{valkey.socket}",
        REDIS_URL=f"unix://{valkey.socket}?db=1",
        TASKMILL_LOG_LEVEL="WARNING",
        TASKMILL_HANDLER_MODULES="bench.fair_handlers",
    )


class _Bench:
    """The two tenants."""

    def __init__(self, url: str) -> None:
        from tasks_app.models import Queue, Tenant

        self._url = url
        self.connection = psycopg.connect(url, autocommit=True)
        self.noisy, self.quiet = (
            Tenant.objects.create(slug=name, name=name).pk for name in ("noisy", "quiet")
        )
        Queue.objects.create(name=BESIDE)

    def fill(self, sizes: Sizes) -> None:
        """Make the backlog of the noisy tenant."""
        values = {"tenant": self.noisy, "queue": BESIDE, "nap": sizes.nap_seconds}
        self.connection.execute(_BACKLOG, values | {"waiting": sizes.waiting})
        self.connection.execute("VACUUM ANALYZE taskmill_task")

    def started(self) -> int:
        """Count the tasks of the noisy tenant that were handed out."""
        row = self.connection.execute(_STARTED, {"noisy": self.noisy}).fetchone()
        assert row is not None
        return int(row[0])

    def noisy_started(self) -> bool:
        """Say whether the noisy tenant is at work."""
        return self.started() > 0

    def measure(self, sizes: Sizes) -> list[dict[str, Any]]:
        """Give a row for each round and load: the waits of each kind, in turn."""
        rows = []
        for number in range(sizes.rounds):
            for load in sizes.loads:
                row: dict[str, Any] = {"round": number, "load": load.name}
                self._steer("pause_queue")
                wait_until("the end of what runs", lambda: not self._running())
                row |= self._waits("alone", load, sizes)
                with self._own_load(sizes):
                    row |= self._waits("own", load, sizes)
                self._steer("resume_queue")
                for kind, share in (("beside", None), ("full", 100)):
                    self._steer("change_queue", columns={"max_share": share})
                    row |= self._beside(kind, load, sizes)
                self._steer("change_queue", columns={"max_share": None})
                rows.append(row)
        return rows

    def _beside(self, kind: str, load: Load, sizes: Sizes) -> dict[str, Any]:
        self._wait_for_noise(sizes)
        before, began = self.started(), monotonic()
        row = self._waits(kind, load, sizes, queue=BESIDE)
        pace = (self.started() - before) / (monotonic() - began)
        return row | {f"noisy_per_second_{kind}": pace}

    @contextmanager
    def _own_load(self, sizes: Sizes) -> Iterator[None]:
        """Keep as many other tasks of the quiet tenant under way as there are slots."""
        is_over = threading.Event()

        def keep() -> None:
            live: list[Any] = []
            with psycopg.connect(self._url, autocommit=True) as connection:
                while not is_over.wait(0.005):
                    rows = connection.execute(_UNFINISHED, {"ids": live}).fetchall()
                    live = [row[0] for row in rows]
                    missing = sizes.slots - len(live)
                    if missing:
                        live += self._submit(missing, ALONE, sizes.nap_seconds, connection)

        with ThreadPoolExecutor(1) as pool:
            keeping = pool.submit(keep)
            try:
                yield
            finally:
                is_over.set()
                keeping.result(60)

    def _steer(self, use_case: str, **values: Any) -> None:
        from tasks_app.services import queues
        from tasks_app.services.caller import Caller

        caller = Caller(tenant_id=self.quiet, actor="bench")
        getattr(queues, use_case)(caller=caller, name=BESIDE, **values)

    def _running(self) -> bool:
        query = "SELECT FROM taskmill_task WHERE state IN ('running', 'dispatched') LIMIT 1"
        return self.connection.execute(query).fetchone() is not None

    def _wait_for_noise(self, sizes: Sizes) -> None:
        goal = self.started() + 5 * sizes.slots
        wait_until("the noisy tenant", lambda: self.started() >= goal)

    def _waits(
        self, kind: str, load: Load, sizes: Sizes, *, queue: str = ALONE
    ) -> dict[str, list[float]]:
        """Submit the load and give the seconds that each task waited, in order of size; and those
        until it was handed out, as `{kind}_handed_out`.
        """
        ids: list[Any] = []
        began = monotonic()
        for number in range(load.times):
            sleep(max(0.0, began + number * load.every_seconds - monotonic()))
            ids += self._submit(load.tasks, queue, sizes.nap_seconds, self.connection)
        rows: list[tuple[float, float]] = []

        def is_done() -> bool:
            rows[:] = self.connection.execute(_WAITS, {"ids": ids}).fetchall()
            return len(rows) == len(ids)

        wait_until("the end of the quiet tenant's tasks", is_done, seconds=300)
        waits, handed_out = (sorted(row[place] for row in rows) for place in (0, 1))
        return {kind: waits, f"{kind}_handed_out": handed_out}

    def _submit(
        self, count: int, queue: str, seconds: float, connection: psycopg.Connection[Any]
    ) -> list[Any]:
        from tasks_app import transitions

        new = [
            transitions.NewTask(
                tenant_id=self.quiet,
                type="bench.nap",
                queue=queue,
                payload={"seconds": seconds},
                max_retry=0,
                process_timeout=60,
            )
            for _ in range(count)
        ]
        transitions.insert_tasks(connection.cursor(), new)
        return [task.id for task in new]


def _at(waits: Sequence[float], share: float) -> float:
    return waits[min(len(waits) - 1, int(share * len(waits)))]


def _report(rows: Sequence[dict[str, Any]], sizes: Sizes, directory: Path) -> None:
    print(
        f"{sizes.waiting:,} tasks of the noisy tenant, {sizes.slots} slots, each task"
        f" {sizes.nap_seconds * 1000:.0f} ms; medians of {sizes.rounds} rounds;"
        f" load average {os.getloadavg()[0]:.1f}"
    )
    print(
        "| load of the quiet tenant | p50 | p95 | to alone | to own load"
        " | handed out, p50, p95 | noisy, tasks/s |"
    )
    print("|---|---|---|---|---|---|---|")
    for load in sizes.loads:
        mine = [row for row in rows if row["load"] == load.name]
        for kind, title in zip(KINDS, TITLES, strict=True):
            p50, p95, out50, out95 = (
                statistics.median(_at(row[what], share) for row in mine) * 1000
                for what in (kind, f"{kind}_handed_out")
                for share in (0.5, 0.95)
            )
            to_alone, to_own = (
                statistics.median(_at(row[kind], 0.95) / _at(row[other], 0.95) for row in mine)
                for other in ("alone", "own")
            )
            paces = [row[f"noisy_per_second_{kind}"] for row in mine if kind in KINDS[2:]]
            pace = f"{statistics.median(paces):.1f}" if paces else "-"
            print(
                f"| {load.name}, {title} | {p50:.0f} ms | {p95:.0f} ms"
                f" | {to_alone:.2f} | {to_own:.2f} | {out50:.0f}, {out95:.0f} ms | {pace} |"
            )
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"fair-{strftime('%Y%m%d-%H%M%S')}.jsonl").open("w") as file:
        for row in rows:
            file.write(json.dumps(asdict(sizes) | row) + "\n")


if __name__ == "__main__":
    sys.exit(main())
