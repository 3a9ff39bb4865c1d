"""The rounds of a run: every measure is taken of each system in turn, several times over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import monotonic

from bench.processes import BenchFault, Memory
from bench.systems import System, Work

Say = Callable[[str], None]
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: how often each measure is taken; the median counts.
        minutes: after which no further round begins.
        submit_seconds: length of one round of submissions one by one.
        bulk_tasks: tasks of one round of bulk submission.
        drain_tasks: tasks of one backlog, of a system whose share is 1.
        large_tasks: tasks of one backlog of large payloads, likewise.
        large_bytes: of each large payload.
        subscribers: live connections of the drain beside them.
        samples: latencies of one round.
    """

    rounds: int = 3
    minutes: float = 60.0
    submit_seconds: float = 2.0
    bulk_tasks: int = 10_000
    drain_tasks: int = 10_000
    large_tasks: int = 1_000
    large_bytes: int = 100_000
    subscribers: int = 1_000
    samples: int = 200


QUICK = Sizes(
    rounds=1,
    submit_seconds=0.5,
    bulk_tasks=500,
    drain_tasks=200,
    large_tasks=20,
    subscribers=20,
    samples=10,
)


@dataclass(slots=True)
class Figures:
    """What was found of one system, a value per round.

    Attributes:
        values: rates in tasks per second and times in milliseconds, by `report.TITLES`.
        cpu: microseconds of processor time per task by process, of each kind of drain.
        memory: by process.
    """

    key: str
    system: str
    keeps: str
    values: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Add a value of a round."""
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        """Give the median of a value, or None where it was not taken."""
        found = self.values.get(name)
        return median(found) if found else None

    def cpu_per_task(self, name: str) -> dict[str, float]:
        """Give the median processor time per task of a kind of drain, by process."""
        drains = self.cpu.get(name, [])
        roles = sorted({role for drain in drains for role in drain})
        return {role: median(drain.get(role, 0.0) for drain in drains) for role in roles}


Measure = Callable[[System, Sizes, Figures], None]


def _submit(system: System, sizes: Sizes, figures: Figures) -> None:
    """Submit one by one with no worker running."""
    for clients in (1, 8):
        figures.add(f"submit{clients}", system.submit(clients, sizes.submit_seconds))
    system.empty()


def _bulk(system: System, sizes: Sizes, figures: Figures) -> None:
    """Submit in bulk with no worker running."""
    system.empty()
    figures.add("bulk", system.bulk(sizes.bulk_tasks))
    system.empty()


def _latency(system: System, sizes: Sizes, figures: Figures) -> None:
    """Submit and wait, one at a time, with the worker up and idle."""
    system.empty()
    system.start_worker()
    cuts = quantiles(system.latency(sizes.samples), n=100, method="inclusive")
    for percent in PERCENTILES:
        figures.add(f"p{percent}", cuts[percent - 1])
    system.stop_worker()


def _drain_of(name: str, work: Callable[[Sizes, float], Work]) -> Measure:
    def take(system: System, sizes: Sizes, figures: Figures) -> None:
        found = system.drain(work(sizes, system.share))
        figures.add(name, found.rate)
        figures.cpu.setdefault(name, []).append(found.cpu)

    return take


def _least(tasks: int, share: float) -> int:
    return max(1, round(tasks * share))


MEASURES: dict[str, Measure] = {
    "submit": _submit,
    "bulk": _bulk,
    "drain": _drain_of("drain", lambda sizes, share: Work(tasks=_least(sizes.drain_tasks, share))),
    "rules": _drain_of(
        "rules",
        lambda sizes, share: Work(tasks=_least(sizes.drain_tasks, share), has_rules=True),
    ),
    "subscribers": _drain_of(
        "subscribers",
        lambda sizes, share: Work(
            tasks=_least(sizes.drain_tasks, share), subscribers=sizes.subscribers
        ),
    ),
    "large": _drain_of(
        "large",
        lambda sizes, share: Work(
            tasks=_least(sizes.large_tasks, share), payload_bytes=sizes.large_bytes
        ),
    ),
    "single": _drain_of(
        "single",
        lambda sizes, share: Work(tasks=_least(sizes.drain_tasks, share), is_single=True),
    ),
    "latency": _latency,
}
"""What can be measured, in the order in which a round takes it: what is compared with the plain
drain follows it, before an engine starts anew.
"""


def measure(
    systems: Sequence[System], wanted: Collection[str], sizes: Sizes, say: Say
) -> list[Figures]:
    """Take the wanted measures of each system that offers them, in turn, round by round.

    Args:
        wanted: names of `MEASURES`.
        say: is told of each step.

    Raises:
        BenchFault: no system offers any of them.
    """
    if not any(name in system.measures for system in systems for name in wanted):
        names = ", ".join(system.name for system in systems)
        raise BenchFault(f"none of {names} offers {', '.join(wanted)}; choose others")
    found = [Figures(system.key, system.name, system.keeps) for system in systems]
    end = monotonic() + 60 * sizes.minutes
    with started(say, *systems):
        for number in range(sizes.rounds):
            if number and monotonic() > end:
                say(f"no time for round {number + 1}")
                break
            for name, take in MEASURES.items():
                for system, figures in zip(systems, found, strict=True):
                    if name in wanted and name in system.measures:
                        say(f"round {number + 1}, {name}: {system.name}")
                        take(system, sizes, figures)
        for system, figures in zip(systems, found, strict=True):
            figures.memory = system.memory()
    return found


@contextmanager
def started(say: Say, *systems: System) -> Iterator[None]:
    """Start systems and stop them whatever happens."""
    try:
        for system in systems:
            say(f"start {system.name}")
            system.start()
        yield
    finally:
        for system in systems:
            system.stop()
