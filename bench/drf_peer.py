"""A plain Django REST framework view as a measured system: a submission over HTTP, nothing else."""

from __future__ import annotations

import sys

from bench.peer import Peer
from bench.peer_install import peer_python
from bench.processes import BenchFault, accepts, free_port, run_client, run_program, wait_until
from bench.stage import Stage
from bench.systems import environment

DATABASE = "drf"
_COUNT = "SELECT count(*) FROM peer_drf_entry"


class Drf(Peer):
    """A view that inserts one row, under WSGI, in one process as our web is."""

    key = "drf"
    name = "DRF view, one row"
    keeps = "a row"
    measures = frozenset({"submit"})

    def __init__(self, stage: Stage) -> None:
        self._python = peer_python()
        self._port = free_port()
        env = environment(
            DJANGO_SETTINGS_MODULE="bench.peer_drf.settings",
            PEER_DATABASE=DATABASE,
            PEER_DATABASE_HOST=str(stage.postgres.sockets),
            BENCH_TOKEN="none",
        )
        super().__init__(stage, [sys.executable, "-m", "bench.http_client"], env)

    def start(self) -> None:
        """Create the table and start the server."""
        self.stage.postgres.create_database(DATABASE)
        migrate = "-m django migrate --run-syncdb --verbosity 0"
        run_program([self._python, *migrate.split()], env=self.env)
        words = f"-m granian --interface wsgi --workers 1 --port {self._port} --log-level warning"
        command = [self._python, *words.split(), "bench.peer_drf.wsgi:application"]
        started = self.processes.start("web", "drf", command, self.env)

        def is_up() -> bool:
            started.check()
            return accepts(self._port)

        wait_until("the start of the DRF view", is_up)

    def empty(self) -> None:
        """Remove all rows."""
        with self.stage.connect(DATABASE) as connection:
            connection.execute("TRUNCATE peer_drf_entry")

    def submit(self, clients: int, seconds: float) -> float:
        """POST one by one over some connections, and count the rows."""
        self.empty()
        words = ("submit", self._port, clients, seconds, 201)
        found = run_client(self._client, *words, env=self.env)
        with self.stage.connect(DATABASE) as connection:
            rows = connection.execute(_COUNT).fetchone()
        if rows != (found["accepted"],):
            raise BenchFault(f"{self.name}: {found['accepted']} were accepted, {rows} are there")
        return float(found["rate"])
