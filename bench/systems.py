"""What is measured: Taskmill through its public interfaces, and the peers beside it.

A system starts its own processes, offers the same measures, and can be emptied between them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from bench.processes import (
    BenchFault,
    Memory,
    Process,
    cpu_seconds,
    memory_of,
    own_cpu_seconds,
    wait_until,
)
from bench.stage import Stage

CONCURRENCY = 2
DRAIN_SECONDS = 240.0
COMMON_MEASURES = frozenset({"submit", "bulk", "drain", "large", "latency"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A backlog to work off.

    Attributes:
        tasks: how many.
        payload_bytes: length of the text in each payload; 0 for a few words.
        is_single: whether each task travels in a message of its own, which is not the default.
        has_rules: whether three limits hold for each task.
        subscribers: live connections, each of which watches a task of the backlog.
    """

    tasks: int
    payload_bytes: int = 0
    is_single: bool = False
    has_rules: bool = False
    subscribers: int = 0


@dataclass(slots=True)
class Drain:
    """A backlog worked off.

    Attributes:
        rate: tasks per second from the first start to the last finish.
        cpu: processor microseconds per task by process between those two.
    """

    rate: float
    cpu: dict[str, float]


class System(Protocol):
    """The measures that every system offers.

    Attributes:
        key: what options call it.
        name: what tables call it.
        keeps: what can be read of a task afterwards.
        measures: those of `rounds.MEASURES` that it offers.
        share: of the tasks of a backlog, so that no round of a slow or a fast system is too long
            or too short.
    """

    key: str
    name: str
    keeps: str
    measures: frozenset[str]
    share: float

    def start(self) -> None:
        """Start all but the worker."""

    def stop(self) -> None:
        """Stop everything."""

    def start_worker(self) -> None:
        """Start the worker."""

    def stop_worker(self) -> None:
        """Stop the worker; its peak memory is kept."""

    def empty(self) -> None:
        """Forget all tasks; the worker is stopped."""

    def submit(self, clients: int, seconds: float) -> float:
        """Give tasks per second, submitted one by one."""

    def bulk(self, tasks: int) -> float:
        """Give tasks per second, submitted many at once."""

    def latency(self, samples: int) -> list[float]:
        """Give milliseconds from submission to result, one task after another."""

    def drain(self, work: Work) -> Drain:
        """Preload tasks, start the worker, wait for the last one, read every result; the worker is
        stopped again.
        """

    def memory(self) -> dict[str, Memory]:
        """Give the memory of the processes by role."""


@dataclass(slots=True)
class Processes:
    """The running processes of a system by role, and the memory of those that have ended."""

    stage: Stage
    running: dict[str, Process] = field(default_factory=dict)
    sizes: dict[str, Memory] = field(default_factory=dict)

    def start(self, role: str, system: str, command: list[str], env: dict[str, str]) -> Process:
        """Start a process under a role."""
        log = self.stage.directory / f"{system}-{role}.log".replace(" ", "-")
        process = Process(f"{system} {role}", command, env=env, log=log)
        self.running[role] = process
        return process

    def stop(self, role: str) -> None:
        """Stop a role's process and keep its peak memory."""
        process = self.running.pop(role, None)
        if process is not None:
            self._keep(role, process)
            process.stop()

    def stop_all(self) -> None:
        """Stop every process."""
        for role in list(self.running):
            self.stop(role)

    def memory(self) -> dict[str, Memory]:
        """Give the most memory by role, of a process and its children."""
        for role, process in self.running.items():
            self._keep(role, process)
        return self.sizes

    def _keep(self, role: str, process: Process) -> None:
        now = memory_of(process.pid)
        self.sizes[role] = now.most(self.sizes.get(role, now))

    def cpu(self) -> dict[str, float]:
        """Give processor seconds so far by role, the servers of the stage included."""
        found = {name: cpu_seconds(pid) for name, pid in self.stage.server_pids().items()}
        for role, process in self.running.items():
            process.check()
            found[role] = cpu_seconds(process.pid)
            if role == "worker":
                found["worker main"] = own_cpu_seconds(process.pid)
                found["worker children"] = found.pop("worker") - found["worker main"]
        return found

    def check(self) -> None:
        """Raise where a process has ended."""
        for process in self.running.values():
            process.check()


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Give what was used between two readings, roles that used nothing left out."""
    used = {role: after[role] - before.get(role, 0.0) for role in after}
    return {role: seconds for role, seconds in used.items() if seconds > 0}


def environment(**changes: str) -> dict[str, str]:
    """Give the environment of a child: ours without the variables that choose servers."""
    dropped = ("TASKMILL_", "DATABASE_URL", "BROKER_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return kept | changes


def measure_drain(
    processes: Processes,
    *,
    tasks: int,
    start_worker: Callable[[], None],
    count: Callable[[], tuple[int, int]],
) -> dict[str, float]:
    """Start the worker and wait for all; give the processor seconds from the first start on.

    Args:
        count: gives how many tasks have started, or at least whether any has, and how many
            are done.

    Raises:
        BenchFault: the tasks are not done within `DRAIN_SECONDS`.
    """
    start_worker()
    wait_until("the first start", lambda: count()[0] > 0, seconds=60, every=0.01)
    before = processes.cpu()
    end = monotonic() + DRAIN_SECONDS

    def is_done() -> bool:
        processes.check()
        return bool(count()[1] >= tasks)

    wait_until(f"the end of {tasks} tasks", is_done, seconds=end - monotonic(), every=0.2)
    return spent(before, processes.cpu())


def drained(name: str, work: Work, found: Mapping[str, Any], cpu: Mapping[str, float]) -> Drain:
    """Give a drain whose results were read afterwards.

    Args:
        found: what the system's client read: `right`, the tasks whose state and result are as
            they must be, and `seconds` from the first start to the last finish.
        cpu: processor seconds by process.

    Raises:
        BenchFault: a result is missing or wrong.
    """
    if found["right"] != work.tasks:
        raise BenchFault(f"{name}: {found['right']} of {work.tasks} results are there and right")
    return Drain(
        rate=work.tasks / found["seconds"],
        cpu={role: seconds / work.tasks * 1e6 for role, seconds in cpu.items()},
    )
