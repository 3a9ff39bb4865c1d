"""Taskmill as a measured system: its own web, engine and worker processes, spoken to over HTTP."""

from __future__ import annotations

from bench.processes import (
    BenchFault,
    Process,
    accepts,
    free_port,
    run_client,
    run_command,
    wait_until,
)
from bench.stage import Stage
from bench.systems import CONCURRENCY, Drain, Processes, environment, measure_drain

CLIENT = "bench.http_client"
ITEMS_PER_REQUEST = 1000
_TABLES = "taskmill_task, taskmill_event, taskmill_attempt"
_COUNTS = """
SELECT EXISTS (SELECT 1 FROM taskmill_attempt)::int,
    (NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'queued')
     AND NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'dispatched')
     AND NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state IN ('running', 'cancelling')))::int
"""
_SUCCEEDED = "SELECT count(*) FROM taskmill_task WHERE state = 'success'"
_SECONDS = """
SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM taskmill_task
"""
_MAKE_KEY = """
from tasks_app.models import Tenant
from tasks_app.services.keys import create_api_key
tenant, _ = Tenant.objects.get_or_create(slug="bench", defaults={"name": "bench"})
print(create_api_key(tenant=tenant, name="bench", scopes=["tasks:submit", "tasks:read"])[1])
"""


class Taskmill:
    """Taskmill on one broker, as an installation of its own.

    Args:
        stage: the servers.
        broker: `rabbitmq` or `valkey`.
    """

    def __init__(self, stage: Stage, broker: str) -> None:
        self.name = f"Taskmill on {'RabbitMQ' if broker == 'rabbitmq' else 'Valkey'}"
        self.stage = stage
        self.processes = Processes(stage)
        self.database = f"taskmill_{broker}"
        self.port = free_port()
        databases = {"rabbitmq": (0, 1), "valkey": (2, 3)}[broker]
        urls = [f"{stage.valkey_socket}?virtual_host={databases[0]}"]
        self.env = environment(
            DJANGO_SETTINGS_MODULE="config.settings",
            SECRET_KEY="bench-only-" + "x" * 50,
            TASKMILL_VAR=str(stage.directory / self.database),
            DATABASE_URL=stage.postgres.url(self.database),
            BROKER_URL=stage.broker.url if broker == "rabbitmq" else f"redis+socket://{urls[0]}",
            REDIS_URL=f"unix://{stage.valkey_socket}?db={databases[1]}",
            PORT=str(self.port),
            TASKMILL_LOG_LEVEL="WARNING",
            TASKMILL_RATE_LIMIT="10000000/minute",
        )

    def start(self) -> None:
        """Create the database and a key, start web and engine."""
        self.stage.postgres.create_database(self.database)
        run_command(["manage.py", "migrate", "--verbosity", "0"], env=self.env)
        token = run_command(
            ["manage.py", "shell", "--verbosity", "0", "-c", _MAKE_KEY], env=self.env
        )
        self.env["BENCH_TOKEN"] = token.strip().splitlines()[-1]
        options = "--loop uvloop --http httptools --lifespan off --no-access-log"
        web = f"-m uvicorn config.asgi:application --port {self.port} {options}"
        started = self._start("web", f"{web} --log-level warning")
        self._start("engine", "manage.py engine")

        def is_up() -> bool:
            started.check()
            return accepts(self.port)

        wait_until("the start of web", is_up)

    def _start(self, role: str, words: str) -> Process:
        return self.processes.start(role, self.database, words.split(), self.env)

    def stop(self) -> None:
        """Stop all processes, the worker first."""
        for role in ("worker", "engine", "web"):
            self.processes.stop(role)

    def start_worker(self) -> None:
        """Start the prefork worker."""
        options = f"-n {self.database}@%h --concurrency={CONCURRENCY}"
        options += " --without-mingle --without-gossip"
        self._start("worker", f"-m celery -A config worker {options} --loglevel=WARNING")

    def stop_worker(self) -> None:
        """Stop the worker."""
        self.processes.stop("worker")

    def empty(self) -> None:
        """Remove all tasks."""
        with self.stage.connect(self.database) as connection:
            connection.execute(f"TRUNCATE {_TABLES} CASCADE")
            connection.execute("CHECKPOINT")

    def submit(self, clients: int, seconds: float) -> float:
        """POST single tasks over some connections."""
        found = run_client(CLIENT, "submit", self.port, clients, seconds, env=self.env)
        return float(found["rate"])

    def bulk(self, tasks: int) -> float:
        """POST tasks by the thousand."""
        found = run_client(CLIENT, "bulk", self.port, tasks, ITEMS_PER_REQUEST, env=self.env)
        return float(found["rate"])

    def latency(self, samples: int) -> list[float]:
        """POST with `Prefer: wait` one after another."""
        found = run_client(CLIENT, "latency", self.port, samples, env=self.env)
        return [float(value) for value in found["milliseconds"]]

    def drain(self, tasks: int) -> Drain:
        """Work off a preloaded backlog until every task is a success."""
        self.empty()
        self.bulk(tasks)
        with self.stage.connect(self.database) as connection:

            def count() -> tuple[int, int]:
                row = connection.execute(_COUNTS).fetchone()
                return (0, 0) if row is None else (row[0], row[1] * tasks)

            cpu = measure_drain(
                self.processes, tasks=tasks, start_worker=self.start_worker, count=count
            )
            row = connection.execute(_SECONDS).fetchone()
            succeeded = connection.execute(_SUCCEEDED).fetchone()
        self.stop_worker()
        if row is None or succeeded != (tasks,):
            raise BenchFault(f"{self.name}: {succeeded} of {tasks} tasks succeeded")
        return Drain(rate=tasks / row[0], cpu=cpu)

    def memory(self) -> dict[str, list[float]]:
        """Give the peak megabytes of web, engine and worker."""
        return self.processes.memory()
