"""What all peers have in common: a client program that submits, waits and reads results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.processes import Memory, run_client
from bench.stage import Stage
from bench.systems import COMMON_MEASURES, Drain, Processes, Work, drained, measure_drain


class Peer:
    """A peer whose client program has the modes `submit`, `bulk`, `latency` and `verify`.

    Args:
        stage: the servers.
        client: the command of its client program.
        env: the environment of its client and of its worker.
    """

    key: str
    name: str
    keeps: str
    measures = COMMON_MEASURES
    share = 1.0

    def __init__(self, stage: Stage, client: Sequence[str], env: dict[str, str]) -> None:
        self.stage = stage
        self.processes = Processes(stage)
        self.env = env
        self._client = client

    def stop(self) -> None:
        """Stop the worker."""
        self.processes.stop_all()

    def start_worker(self) -> None:
        """Start the worker."""
        raise NotImplementedError

    def stop_worker(self) -> None:
        """Stop the worker."""
        self.processes.stop("worker")

    def empty(self) -> None:
        """Forget all tasks."""
        raise NotImplementedError

    def count(self) -> tuple[int, int]:
        """Give how many tasks have started, or whether any has, and how many are done."""
        raise NotImplementedError

    def submit(self, clients: int, seconds: float) -> float:
        """Submit one by one by so many clients at a time."""
        return float(self.ask("submit", clients, seconds)["rate"])

    def bulk(self, tasks: int, payload_bytes: int = 0) -> float:
        """Submit many at once."""
        return float(self.ask("bulk", tasks, payload_bytes)["rate"])

    def latency(self, samples: int) -> list[float]:
        """Submit and wait, one after another."""
        return [float(value) for value in self.ask("latency", samples)["milliseconds"]]

    def drain(self, work: Work) -> Drain:
        """Work off a preloaded queue and read every result."""
        self.empty()
        self.bulk(work.tasks, work.payload_bytes)
        cpu = measure_drain(
            self.processes, tasks=work.tasks, start_worker=self.start_worker, count=self.count
        )
        found = self.ask("verify", work.tasks, work.payload_bytes)
        self.stop_worker()
        return drained(self.name, work, found, cpu)

    def memory(self) -> dict[str, Memory]:
        """Give the memory of the worker, main process and children."""
        return self.processes.memory()

    def ask(self, mode: str, *arguments: object) -> dict[str, Any]:
        """Run the client in a mode."""
        return run_client(self._client, mode, *arguments, env=self.env)
