"""The rounds of a run: every measure is taken of each system in turn, several times over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles

from bench.celery_peer import CeleryPeer
from bench.stage import Stage
from bench.systems import Drain, System
from bench.taskmill import Taskmill

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: how often each of the fast measures is taken; the median counts.
        submit_seconds: length of one round of submissions one by one.
        bulk_tasks: tasks of one round of bulk submission.
        drain_tasks: tasks of one backlog.
        tuned_tasks: tasks of the backlog of the tuned peer; 0 leaves it out.
        samples: latencies of one round.
    """

    rounds: int = 3
    submit_seconds: float = 2.0
    bulk_tasks: int = 10_000
    drain_tasks: int = 10_000
    tuned_tasks: int = 3_000
    samples: int = 100


QUICK = Sizes(
    rounds=1, submit_seconds=0.5, bulk_tasks=500, drain_tasks=200, tuned_tasks=0, samples=10
)


@dataclass(slots=True)
class Figures:
    """What was found of one system; rates in tasks per second, latencies in milliseconds."""

    system: str
    submit: dict[int, list[float]] = field(default_factory=dict)
    bulk: list[float] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)

    def percentile(self, percent: int) -> float | None:
        """Give a percentile of the latencies, or None where none were taken."""
        if len(self.latencies) < 2:
            return None
        return quantiles(self.latencies, n=100, method="inclusive")[percent - 1]

    def drain_rate(self) -> float | None:
        """Give the median rate of the drains."""
        return median(drain.rate for drain in self.drains) if self.drains else None

    def submit_rate(self, clients: int) -> float | None:
        """Give the median rate of submissions by so many clients."""
        found = self.submit.get(clients)
        return median(found) if found else None

    def bulk_rate(self) -> float | None:
        """Give the median rate of bulk submission."""
        return median(self.bulk) if self.bulk else None

    def cpu_per_task(self, tasks: int) -> dict[str, float]:
        """Give microseconds of processor time per drained task by process, over all drains."""
        if not self.drains:
            return {}
        roles = sorted({role for drain in self.drains for role in drain.cpu})
        return {
            role: median(drain.cpu.get(role, 0.0) for drain in self.drains) / tasks * 1e6
            for role in roles
        }


def measure(stage: Stage, sizes: Sizes, say: Say) -> list[Figures]:
    """Measure Taskmill on RabbitMQ and Valkey, the peer, and the peer tuned.

    Args:
        say: is told of each step.

    Returns:
        Their figures in this order. Submissions do not touch the broker, so Taskmill on Valkey
        has none.
    """
    ours, ours_valkey = Taskmill(stage, "rabbitmq"), Taskmill(stage, "valkey")
    peer = CeleryPeer(stage)
    with started(say, ours, ours_valkey, peer):
        found = {system.name: Figures(system.name) for system in (ours, ours_valkey, peer)}
        _submissions(found, (ours, peer), sizes, say)
        _drains(found, (ours, ours_valkey), sizes, say)
        say(f"drain of {sizes.drain_tasks} tasks: {peer.name}")
        found[peer.name].drains.append(peer.drain(sizes.drain_tasks))
        _latencies(found, (ours, ours_valkey, peer), sizes, say)
        for system in (ours, ours_valkey, peer):
            found[system.name].memory = system.memory()
    tuned = [_tuned(stage, sizes, say)] if sizes.tuned_tasks else []
    return [*found.values(), *tuned]


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


def _submissions(
    found: dict[str, Figures], systems: Sequence[System], sizes: Sizes, say: Say
) -> None:
    """Submit one by one and in bulk with no worker running."""
    for number in range(sizes.rounds):
        for system in systems:
            say(f"submissions, round {number + 1}: {system.name}")
            figures = found[system.name]
            for clients in (1, 8):
                rate = system.submit(clients, sizes.submit_seconds)
                figures.submit.setdefault(clients, []).append(rate)
            figures.bulk.append(system.bulk(sizes.bulk_tasks))
            system.empty()


def _drains(found: dict[str, Figures], systems: Sequence[System], sizes: Sizes, say: Say) -> None:
    for number in range(sizes.rounds):
        for system in systems:
            say(f"drain of {sizes.drain_tasks} tasks, round {number + 1}: {system.name}")
            found[system.name].drains.append(system.drain(sizes.drain_tasks))


def _latencies(
    found: dict[str, Figures], systems: Sequence[System], sizes: Sizes, say: Say
) -> None:
    """Submit and wait, one at a time, with all workers up and idle."""
    for system in systems:
        system.empty()
        system.start_worker()
    for number in range(sizes.rounds):
        for system in systems:
            say(f"submit to result, round {number + 1}: {system.name}")
            found[system.name].latencies += system.latency(sizes.samples)
    for system in systems:
        system.stop_worker()


def _tuned(stage: Stage, sizes: Sizes, say: Say) -> Figures:
    """Measure the peer with kept database connections and with confirms, as ours has both."""
    peer = CeleryPeer(stage, is_tuned=True)
    figures = Figures(peer.name)
    with started(say, peer):
        say(f"submissions: {peer.name}")
        peer.empty()
        for clients in (1, 8):
            figures.submit[clients] = [peer.submit(clients, sizes.submit_seconds)]
        figures.bulk.append(peer.bulk(min(sizes.bulk_tasks, sizes.tuned_tasks)))
        say(f"drain of {sizes.tuned_tasks} tasks: {peer.name}")
        drain = peer.drain(sizes.tuned_tasks)
        scale = sizes.drain_tasks / sizes.tuned_tasks
        cpu = {role: seconds * scale for role, seconds in drain.cpu.items()}
        figures.drains.append(Drain(drain.rate, cpu))
        peer.start_worker()
        figures.latencies = peer.latency(sizes.samples)
        peer.stop_worker()
        figures.memory = peer.memory()
    return figures
