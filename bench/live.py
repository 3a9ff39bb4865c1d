"""`python -m bench.live [--quick] [--results DIRECTORY]`: how fast events reach live connections.

One web process, one engine with the relay, PostgreSQL with everything durable on, and one process
that holds all connections. Each connection watches the same task. First numbered events are
committed one by one, which gives the time from commit to each client; then some in one
transaction, which gives the rate of deliveries and what one costs. The same is sent by a plain
channels-redis group beside ours, after the same commits. Last, a backlog is drained with and
without subscribers of all its events. Prints tables, keeps JSON lines. See
docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import sleep, strftime
from types import FrameType

import psutil

from bench.live_channels import announcing
from bench.live_drain import DrainSizes, measure_drain
from bench.live_scene import Client, Commit, Scene
from bench.processes import own_cpu_seconds
from bench.report import RESULTS

TRANSPORTS = ("websocket", "sse", "channels")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        single: events committed one by one, `pause_seconds` apart.
        burst: events committed together.
    """

    connections: tuple[int, ...] = (10, 100, 1000)
    single: int = 50
    pause_seconds: float = 0.25
    burst: int = 100
    drain: DrainSizes = field(default_factory=DrainSizes)


QUICK = Sizes(
    connections=(5,),
    single=5,
    pause_seconds=0.02,
    burst=10,
    drain=DrainSizes(tasks=50, subscribers=5, rounds=1),
)


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


def measure(scene: Scene, transport: str, connections: int, sizes: Sizes) -> Figures:
    """Measure one transport with so many connections."""
    with ExitStack() as stack:
        web = stack.enter_context(scene.web(transport))
        commit = stack.enter_context(committer(scene, transport))
        warm = Client(scene, transport, 1, [1, 1, 1])
        stack.callback(warm.stop)
        warm.line()
        for _ in range(3):
            commit(1)
            warm.line()
        before = psutil.Process(web.pid).memory_info().rss
        client = Client(scene, transport, connections, [1, sizes.single, sizes.burst])
        stack.callback(client.stop)
        client.line()
        held = psutil.Process(web.pid).memory_info().rss - before
        commit(1)
        client.line()
        latencies = singles(commit, client, sizes)
        cpu = own_cpu_seconds(web.pid)
        _, committed = commit(sizes.burst)
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


def committer(scene: Scene, transport: str) -> AbstractContextManager[Commit]:
    """Give what commits events; the peer's sends them to its group after that."""
    return announcing(scene) if transport == "channels" else nullcontext(scene.commit)


def singles(commit: Commit, client: Client, sizes: Sizes) -> list[float]:
    """Commit events one by one; give the milliseconds until each connection had each."""
    committed = {}
    for _ in range(sizes.single):
        [number], at = commit(1)
        committed[str(number)] = at
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
        drain = measure_drain(scene, sizes.drain)
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"\n{table(found)}\n\n{drain}")
    print(f"\nload average at the end: {load} on {os.cpu_count()} cores")
    options.results.mkdir(exist_ok=True)
    path = options.results / f"live-{strftime('%Y-%m-%d')}.jsonl"
    with path.open("a", encoding="utf8") as output:
        for one in found:
            output.write(json.dumps(asdict(one) | {"sizes": asdict(sizes), "load": load}) + "\n")
        output.write(json.dumps({"transport": "drain", "load": load} | asdict(drain)) + "\n")


if __name__ == "__main__":
    main()
