"""The peer as a measured system: Celery prefork, RabbitMQ, django-celery-results."""

from __future__ import annotations

from bench.processes import run_client, run_command
from bench.stage import Stage
from bench.systems import CONCURRENCY, Drain, Processes, environment, measure_drain

CLIENT = "bench.peer_celery.client"
_COUNTS = """
SELECT EXISTS (SELECT 1 FROM django_celery_results_taskresult)::int,
    (SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS')
"""
_SECONDS = """
SELECT extract(epoch FROM max(date_done) - min(date_started))::float8
FROM django_celery_results_taskresult
"""


class CeleryPeer:
    """Celery with django-celery-results.

    Args:
        stage: the servers.
        is_tuned: keep database connections (Celery closes them after every task unless
            `CELERY_DB_REUSE_MAX` is set) and wait for the broker's confirm of every message
            (off by default in Celery, so that a 'submitted' message may be lost).
    """

    def __init__(self, stage: Stage, *, is_tuned: bool = False) -> None:
        self.name = "Celery, tuned" if is_tuned else "Celery"
        self.stage = stage
        self.processes = Processes(stage)
        self.database = "peer"
        self.env = environment(
            DJANGO_SETTINGS_MODULE="bench.peer_celery.settings",
            PEER_DATABASE=self.database,
            PEER_DATABASE_HOST=str(stage.postgres.sockets),
            PEER_BROKER=stage.broker.url,
            PEER_IS_TUNED=str(int(is_tuned)),
        )

    def start(self) -> None:
        """Create the database with its tables."""
        self.stage.postgres.create_database(self.database)
        run_command(["-m", "django", "migrate", "--verbosity", "0"], env=self.env)

    def stop(self) -> None:
        """Stop the worker."""
        self.processes.stop_all()

    def start_worker(self) -> None:
        """Start the prefork worker."""
        options = f"-n peer@%h --concurrency={CONCURRENCY} --loglevel=WARNING --pool=prefork"
        words = f"-m celery -A bench.peer_celery worker {options}".split()
        self.processes.start("worker", "peer", words, self.env)

    def stop_worker(self) -> None:
        """Stop the worker."""
        self.processes.stop("worker")

    def empty(self) -> None:
        """Purge the queue and the results."""
        words = ["-m", "celery", "-A", "bench.peer_celery", "purge", "-f", "-Q", "peer"]
        run_command(words, env=self.env)
        with self.stage.connect(self.database) as connection:
            connection.execute("TRUNCATE django_celery_results_taskresult")
            connection.execute("CHECKPOINT")

    def submit(self, clients: int, seconds: float) -> float:
        """Call `delay()` one by one in each of several processes."""
        return float(run_client(CLIENT, "submit", clients, seconds, env=self.env)["rate"])

    def bulk(self, tasks: int) -> float:
        """Publish through one producer."""
        return float(run_client(CLIENT, "bulk", tasks, env=self.env)["rate"])

    def latency(self, samples: int) -> list[float]:
        """Call `delay().get(interval=0.001)` one after another."""
        found = run_client(CLIENT, "latency", samples, env=self.env)
        return [float(value) for value in found["milliseconds"]]

    def drain(self, tasks: int) -> Drain:
        """Work off a preloaded queue until every result row says SUCCESS."""
        self.empty()
        self.bulk(tasks)
        with self.stage.connect(self.database) as connection:

            def count() -> tuple[int, int]:
                row = connection.execute(_COUNTS).fetchone()
                return (0, 0) if row is None else (row[0], row[1])

            cpu = measure_drain(
                self.processes, tasks=tasks, start_worker=self.start_worker, count=count
            )
            row = connection.execute(_SECONDS).fetchone()
        self.stop_worker()
        return Drain(rate=0.0 if row is None else tasks / row[0], cpu=cpu)

    def memory(self) -> dict[str, list[float]]:
        """Give the worker's peak megabytes, main process and children."""
        return self.processes.memory()
