"""Procrastinate as a measured system, on the run's PostgreSQL."""

from __future__ import annotations

from bench.peer import Peer
from bench.peer_install import peer_python
from bench.processes import run_program
from bench.stage import Stage
from bench.systems import environment

DATABASE = "procrastinate"
JOBS_AT_A_TIME = 10
_APP = "bench.peer_procrastinate.app.app"
_COUNT = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"


class Procrastinate(Peer):
    """Procrastinate with one worker process that runs several coroutines at a time."""

    key = "procrastinate"
    name = "Procrastinate"
    keeps = "state, events, no result"
    share = 0.4

    def __init__(self, stage: Stage) -> None:
        self._python = peer_python()
        client = [self._python, "-m", "bench.peer_procrastinate.client"]
        env = environment(PEER_DATABASE_URL=stage.postgres.url(DATABASE))
        super().__init__(stage, client, env)

    def start(self) -> None:
        """Create the database with its tables."""
        self.stage.postgres.create_database(DATABASE)
        run_program(self._command("schema", "--apply"), env=self.env)
        self._connection = self.stage.connect(DATABASE)

    def start_worker(self) -> None:
        """Start the worker."""
        command = self._command("worker", "-q", "peer", f"--concurrency={JOBS_AT_A_TIME}")
        self.processes.start("worker", "procrastinate", command, self.env)

    def empty(self) -> None:
        """Remove all jobs."""
        self._connection.execute("TRUNCATE procrastinate_jobs CASCADE")
        self._connection.execute("CHECKPOINT")

    def count(self) -> tuple[int, int]:
        """Count the jobs that succeeded."""
        row = self._connection.execute(_COUNT).fetchone()
        return (0, 0) if row is None else (row[0], row[0])

    def _command(self, *words: str) -> list[str]:
        return [self._python, "-m", "procrastinate", "-a", _APP, *words]
