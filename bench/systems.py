"""What is measured: Taskmill through its public interfaces, and the peer beside it.

A system starts its own processes, offers the same five measures, and can be emptied between them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from bench.processes import (
    Process,
    cpu_seconds,
    own_cpu_seconds,
    peak_megabytes,
    wait_until,
)
from bench.stage import Stage

CONCURRENCY = 2
DRAIN_SECONDS = 240.0


@dataclass(slots=True)
class Drain:
    """A backlog worked off.

    Attributes:
        rate: tasks per second from the first start to the last finish.
        cpu: processor seconds by process between those two.
    """

    rate: float
    cpu: dict[str, float]


class System(Protocol):
    """The measures that every system offers."""

    name: str

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

    def drain(self, tasks: int) -> Drain:
        """Preload tasks, start the worker, wait for the last one; the worker is stopped again."""

    def memory(self) -> dict[str, list[float]]:
        """Give the peak megabytes of the processes by role, the largest first."""


@dataclass(slots=True)
class Processes:
    """The running processes of a system by role, and the peaks of those that have ended."""

    stage: Stage
    running: dict[str, Process] = field(default_factory=dict)
    peaks: dict[str, list[float]] = field(default_factory=dict)

    def start(self, role: str, system: str, command: list[str], env: dict[str, str]) -> Process:
        """Start a process under a role."""
        log = self.stage.directory / f"{system}-{role}.log".replace(" ", "-")
        process = Process(f"{system} {role}", [sys.executable, *command], env=env, log=log)
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

    def memory(self) -> dict[str, list[float]]:
        """Give peak megabytes by role; several numbers are a process and its children."""
        for role, process in self.running.items():
            self._keep(role, process)
        return self.peaks

    def _keep(self, role: str, process: Process) -> None:
        now = peak_megabytes(process.pid)
        before = self.peaks.get(role, [])
        longest = max(len(now), len(before))
        pad = [0.0] * longest
        self.peaks[role] = [
            max(a, b) for a, b in zip((now + pad)[:longest], (before + pad)[:longest], strict=True)
        ]

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
