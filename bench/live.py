"""`python -m bench.live [--quick] [--results DIRECTORY]`: how fast events reach live connections.

One web process, one engine with the relay, PostgreSQL with everything durable on, and one process
that holds all connections. Each connection watches the same task. First numbered events are
committed one by one, which gives the time from commit to each client; then some in one
transaction, which gives the rate of deliveries and what one costs. Prints a table, keeps JSON
lines. See docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic_ns, sleep, strftime
from types import FrameType
from typing import Any

import psutil
import psycopg

from bench.processes import (
    ROOT,
    BenchFault,
    Process,
    accepts,
    free_port,
    own_cpu_seconds,
    run_command,
    wait_until,
)
from bench.report import RESULTS
from bench.systems import environment
from tasks_app.management.servers import Postgres, Valkey
from tests.environment import RUN_DIRECTORY

TRANSPORTS = ("websocket", "sse")
_RUNNING_TASK = """
from django.db import connection
from tasks_app import transitions
from tasks_app.models import Tenant
from tasks_app.services.keys import create_api_key
tenant, _ = Tenant.objects.get_or_create(slug="bench", defaults={"name": "bench"})
token = create_api_key(tenant=tenant, name="bench", scopes=["tasks:read"])[1]
task = transitions.NewTask(tenant_id=tenant.pk, type="bench.live", queue="bench", payload={},
    max_retry=0, process_timeout=86400)
with connection.cursor() as cursor:
    transitions.insert_tasks(cursor, [task])
    [[hint], _] = transitions.dispatch(cursor, queue="bench", room=1)
    claim = transitions.claim(cursor, transitions.HintClaim(task_id=hint.id,
        dispatch_seq=hint.dispatch_seq, owner="bench", worker="bench:1", lease_seconds=86400))
print(token, task.id, claim.epoch)
"""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        single: events committed one by one, `pause_seconds` apart.
        burst: events committed together.
    """

    connections: tuple[int, ...] = (100, 1000)
    single: int = 50
    pause_seconds: float = 0.25
    burst: int = 100


QUICK = Sizes(connections=(5,), single=5, pause_seconds=0.02, burst=10)


@dataclass(frozen=True)
class Figures:
    """What one transport did with so many connections; times in milliseconds."""

    transport: str
    connections: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    deliveries_per_second: float
    cpu_us_per_delivery: float
    kilobytes_per_connection: float


class Scene:
    """The servers, and a running task whose progress is written here."""

    def __init__(self, stack: ExitStack) -> None:
        sockets = RUN_DIRECTORY / "run"
        postgres = Postgres(RUN_DIRECTORY / "pg", sockets, log=RUN_DIRECTORY / "pg.log")
        valkey = Valkey(
            RUN_DIRECTORY / "valkey", sockets / "valkey.sock", log=RUN_DIRECTORY / "valkey.log"
        )
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        postgres.create_database("taskmill")
        self._stack = stack
        self.port = free_port()
        self.env = environment(
            DJANGO_SETTINGS_MODULE="config.settings",
            SECRET_KEY="bench-only-" + "x" * 50,
            TASKMILL_VAR=str(RUN_DIRECTORY),
            DATABASE_URL=postgres.url("taskmill"),
            BROKER_URL=f"redis+socket://{valkey.socket}",
            REDIS_URL=f"unix://{valkey.socket}?db=1",
            TASKMILL_LOG_LEVEL="WARNING",
            TASKMILL_MAX_STREAMS_PER_KEY="100000",
        )
        run_command(["manage.py", "migrate", "--verbosity", "0"], env=self.env)
        shown = run_command(
            ["manage.py", "shell", "--verbosity", "0", "-c", _RUNNING_TASK], env=self.env
        )
        token, self.task, self._epoch = shown.strip().splitlines()[-1].split()
        self.env["BENCH_TOKEN"] = token
        self._process("engine", "manage.py", "engine", "--only", "relay")
        self.connection = psycopg.connect(postgres.url("taskmill"), autocommit=True)
        stack.callback(self.connection.close)
        self._number = 0

    def _process(self, name: str, *words: str) -> Process:
        log = RUN_DIRECTORY / f"{name}.log"
        process = Process(name, [sys.executable, *words], env=self.env, log=log)
        self._stack.callback(process.stop)
        return process

    @contextmanager
    def web(self) -> Iterator[Process]:
        """A fresh web process, so that no measurement inherits another's memory."""
        words = f"-m uvicorn config.asgi:application --port {self.port} --loop uvloop"
        words += " --http httptools --lifespan off --no-access-log --log-level warning"
        words += " --ws-max-size 262144 --ws-per-message-deflate false --ws-ping-interval 3600"
        process = self._process("web", *words.split())
        wait_until("the start of web", lambda: accepts(self.port), seconds=120)
        try:
            yield process
        finally:
            process.stop()

    def commit(self, count: int) -> list[int]:
        """Write so many numbered events in one transaction; give their numbers."""
        from tasks_app.progress import save_progress

        numbers = list(range(self._number, self._number + count))
        self._number += count
        with self.connection.transaction():
            cursor: Any = self.connection.cursor()
            for number in numbers:
                found = save_progress(
                    cursor,
                    self.task,  # type: ignore[arg-type]  # the statement casts it
                    epoch=int(self._epoch),
                    percent=50.0,
                    message=str(number),
                    detail=None,
                )
                if found is None:
                    raise BenchFault("the task does not run")
        return numbers


class Client:
    """The process that holds the connections."""

    def __init__(self, scene: Scene, transport: str, connections: int, sizes: Sizes) -> None:
        words = [sys.executable, "-m", "bench.live_client", transport, str(scene.port), scene.task]
        words += [str(connections), str(1), str(sizes.single), str(sizes.burst)]
        self._child = subprocess.Popen(
            words, cwd=ROOT, env=scene.env, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> dict[str, Any]:
        """Wait for its next line."""
        assert self._child.stdout is not None
        text = self._child.stdout.readline()
        if not text:
            raise BenchFault(f"the clients ended with {self._child.wait()}")
        found: dict[str, Any] = json.loads(text)
        return found

    def stop(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()


def measure(scene: Scene, transport: str, connections: int, sizes: Sizes) -> Figures:
    """Measure one transport with so many connections."""
    with ExitStack() as stack:
        web = stack.enter_context(scene.web())
        warm = Client(scene, transport, 1, Sizes(single=1, burst=1))
        stack.callback(warm.stop)
        warm.line()
        for _ in range(3):
            scene.commit(1)
            warm.line()
        before = psutil.Process(web.pid).memory_info().rss
        client = Client(scene, transport, connections, sizes)
        stack.callback(client.stop)
        client.line()
        held = psutil.Process(web.pid).memory_info().rss - before
        scene.commit(1)
        client.line()
        latencies = singles(scene, client, sizes)
        cpu = own_cpu_seconds(web.pid)
        scene.commit(sizes.burst)
        committed = monotonic_ns()
        times = client.line()
        cpu = own_cpu_seconds(web.pid) - cpu
    deliveries = sum(map(len, times.values()))
    seconds = (max(map(max, times.values())) - committed) / 1e9
    cuts = statistics.quantiles(latencies, n=100)
    return Figures(
        transport=transport,
        connections=connections,
        p50_ms=cuts[49],
        p99_ms=cuts[98],
        max_ms=max(latencies),
        deliveries_per_second=deliveries / seconds,
        cpu_us_per_delivery=cpu / deliveries * 1e6,
        kilobytes_per_connection=held / connections / 1024,
    )


def singles(scene: Scene, client: Client, sizes: Sizes) -> list[float]:
    """Commit events one by one; give the milliseconds until each connection had each."""
    committed = {}
    for _ in range(sizes.single):
        [number] = scene.commit(1)
        committed[str(number)] = monotonic_ns()
        sleep(sizes.pause_seconds)
    times = client.line()
    return [(at - committed[number]) / 1e6 for number, some in times.items() for at in some]


def table(found: list[Figures]) -> str:
    """Give the figures as Markdown."""
    head = "| transport | connections | p50, ms | p99, ms | max, ms | deliveries/s |"
    head += " CPU us per delivery | KiB per connection |\n| --- |" + " ---: |" * 7
    rows = [
        f"| {one.transport} | {one.connections:,} | {one.p50_ms:.1f} | {one.p99_ms:.1f} |"
        f" {one.max_ms:.1f} | {one.deliveries_per_second:,.0f} | {one.cpu_us_per_delivery:.0f} |"
        f" {one.kilobytes_per_connection:.0f} |"
        for one in found
    ]
    return "\n".join([head, *rows])


def _leave(number: int, _frame: FrameType | None) -> None:
    """End through the blocks that stop what was started."""
    raise SystemExit(128 + number)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of JSON lines")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    signal.signal(signal.SIGTERM, _leave)
    found = []
    with ExitStack() as stack:
        scene = Scene(stack)
        for connections in sizes.connections:
            for transport in TRANSPORTS:
                found.append(measure(scene, transport, connections, sizes))
                print(f"{transport}, {connections} connections: done", flush=True)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\n{table(found)}\n\nload average at the end: {load} on {os.cpu_count()} cores")
    options.results.mkdir(exist_ok=True)
    path = options.results / f"live-{strftime('%Y-%m-%d')}.jsonl"
    with path.open("a", encoding="utf8") as output:
        for one in found:
            output.write(json.dumps(asdict(one) | {"sizes": asdict(sizes), "load": load}) + "\n")


if __name__ == "__main__":
    main()
