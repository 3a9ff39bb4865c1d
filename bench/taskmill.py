"""Taskmill as a measured system: its own web, engine and worker processes, spoken to over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.live_scene import Client
from bench.processes import (
    BenchFault,
    Memory,
    Process,
    accepts,
    free_port,
    run_client,
    run_command,
    wait_until,
)
from bench.stage import Stage
from bench.systems import (
    COMMON_MEASURES,
    CONCURRENCY,
    Drain,
    Processes,
    Work,
    drained,
    environment,
    measure_drain,
)

CLIENT = [sys.executable, "-m", "bench.http_client"]
READER = [sys.executable, "-m", "bench.http_reader"]
KEYS = 100
RULES = {"concurrency": 100_000, "rate": "1000000/s"}
_ENGINE = "manage.py engine"
_SINGLE = {"TASKMILL_BUNDLE_MOST": "1"}
"""An engine with these hands out every task in a message of its own."""
_SERVERS = {"rabbitmq": "RabbitMQ", "valkey": "Valkey"}
_TABLES = "taskmill_task, taskmill_event, taskmill_attempt"
_COUNTS = """
SELECT EXISTS (SELECT 1 FROM taskmill_attempt)::int,
    (NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'queued' AND queue = 'default')
     AND NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'blocked')
     AND NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state = 'dispatched' AND queue = 'default')
     AND NOT EXISTS (SELECT 1 FROM taskmill_task WHERE state IN ('running', 'cancelling')))::int
"""
_IDS = "SELECT string_agg(id::text, ',') FROM (SELECT id FROM taskmill_task LIMIT %s) AS picked"
_MAKE_KEY = """
from tasks_app.models import Tenant
from tasks_app.services.keys import create_api_key
tenant, _ = Tenant.objects.get_or_create(slug="bench", defaults={"name": "bench"})
scopes = ["tasks:submit", "tasks:read", "queues:write"]
print(create_api_key(tenant=tenant, name="bench", scopes=scopes)[1])
"""


@dataclass(frozen=True, slots=True)
class _Watched:
    port: int
    env: dict[str, str]
    task: str


class Taskmill:
    """Taskmill on one broker, as an installation of its own.

    Args:
        stage: the servers.
        broker: `rabbitmq` or `valkey`.
    """

    key = "taskmill"
    keeps = "state, result, history, attempts, feed"
    measures = COMMON_MEASURES | {"single", "rules", "subscribers"}
    share = 1.0
    redis_databases = {"rabbitmq": (0, 1), "valkey": (2, 3)}

    def __init__(self, stage: Stage, broker: str) -> None:
        self.name = f"Taskmill on {_SERVERS[broker]}"
        self.stage = stage
        self.processes = Processes(stage)
        self.database = f"{self.key}_{broker}".replace("-", "_")
        self.port = free_port()
        databases = self.redis_databases[broker]
        urls = {
            "rabbitmq": lambda: stage.broker_url(self.key),
            "valkey": lambda: f"redis+socket://{stage.valkey_socket}?virtual_host={databases[0]}",
        }
        self.env = environment(
            DJANGO_SETTINGS_MODULE="config.settings",
            SECRET_KEY="bench-only-" + "x" * 50,
            TASKMILL_VAR=str(stage.directory / self.database),
            DATABASE_URL=stage.postgres.url(self.database),
            BROKER_URL=urls[broker](),
            REDIS_URL=f"unix://{stage.valkey_socket}?db={databases[1]}",
            PORT=str(self.port),
            TASKMILL_LOG_LEVEL="WARNING",
            TASKMILL_RATE_LIMIT="10000000/minute",
            TASKMILL_MAX_STREAMS_PER_KEY="100000",
        )

    def start(self) -> None:
        """Create the database and a key, start web and engine."""
        self.stage.postgres.create_database(self.database)
        run_command(["manage.py", "migrate", "--verbosity", "0"], env=self.env)
        token = run_command(
            ["manage.py", "shell", "--verbosity", "0", "-c", _MAKE_KEY], env=self.env
        )
        self.env["BENCH_TOKEN"] = token.strip().splitlines()[-1]
        options = "--loop uvloop --http config.http:Protocol --lifespan off --no-access-log"
        options += " --ws-max-size 262144 --ws-per-message-deflate false"
        web = f"-m uvicorn config.asgi:application --port {self.port} {options}"
        started = self._start("web", f"{web} --log-level warning")
        self._start("engine", _ENGINE)

        def is_up() -> bool:
            started.check()
            return accepts(self.port)

        wait_until("the start of web", is_up)

    def _start(self, role: str, words: str, **changes: str) -> Process:
        command = [sys.executable, *words.split()]
        return self.processes.start(role, self.database, command, self.env | changes)

    def stop(self) -> None:
        """Stop all processes, the worker first."""
        for role in ("worker", "engine", "web"):
            self.processes.stop(role)

    def start_worker(self) -> None:
        """Start the prefork worker."""
        options = f"-n {self.database}@%h --concurrency={CONCURRENCY} --loglevel=WARNING"
        self._start("worker", f"manage.py worker {options}")

    def stop_worker(self) -> None:
        """Stop the worker."""
        self.processes.stop("worker")

    def empty(self) -> None:
        """Remove all tasks."""
        with self.stage.connect(self.database) as connection:
            connection.execute(f"TRUNCATE {_TABLES} CASCADE")
            connection.execute("CHECKPOINT")

    def submit(self, clients: int, seconds: float) -> float:
        """POST single tasks over some connections, and count the rows."""
        self.empty()
        found = run_client(CLIENT, "submit", self.port, clients, seconds, 202, env=self.env)
        with self.stage.connect(self.database) as connection:
            rows = connection.execute("SELECT count(*) FROM taskmill_task").fetchone()
        if rows != (found["accepted"],):
            raise BenchFault(f"{self.name}: {found['accepted']} were accepted, {rows} are there")
        return float(found["rate"])

    def bulk(self, tasks: int, payload_bytes: int = 0, keys: int = 0) -> float:
        """POST tasks many at once."""
        words = ("bulk", self.port, tasks, payload_bytes, keys)
        return float(run_client(CLIENT, *words, env=self.env)["rate"])

    def latency(self, samples: int) -> list[float]:
        """POST with `Prefer: wait` one after another."""
        found = run_client(CLIENT, "latency", self.port, samples, env=self.env)
        return [float(value) for value in found["milliseconds"]]

    def drain(self, work: Work) -> Drain:
        """Work off a preloaded backlog and read every result over HTTP."""
        self.empty()
        self._limit(RULES if work.has_rules else dict.fromkeys(RULES))
        self.bulk(work.tasks, work.payload_bytes, KEYS if work.has_rules else 0)
        with (
            self.stage.connect(self.database) as connection,
            self._single(is_wanted=work.is_single),
            self._watching(work.subscribers),
        ):

            def count() -> tuple[int, int]:
                row = connection.execute(_COUNTS).fetchone()
                return (0, 0) if row is None else (row[0], row[1] * work.tasks)

            cpu = measure_drain(
                self.processes, tasks=work.tasks, start_worker=self.start_worker, count=count
            )
        self.stop_worker()
        found = run_client(READER, self.port, work.payload_bytes, env=self.env)
        return drained(self.name, work, found, cpu)

    def _limit(self, limits: dict[str, int | str] | dict[str, None]) -> None:
        """Put limits on the task type, or lift them."""
        run_client(CLIENT, "limit", self.port, *limits.values(), env=self.env)

    @contextmanager
    def _single(self, *, is_wanted: bool) -> Iterator[None]:
        """Have an engine that hands every task out in a message of its own, if that is wanted."""
        if not is_wanted:
            yield
            return
        self.processes.stop("engine")
        self._start("engine", _ENGINE, **_SINGLE)
        yield
        self.processes.stop("engine")
        self._start("engine", _ENGINE)

    @contextmanager
    def _watching(self, subscribers: int) -> Iterator[None]:
        """Have as many live connections, each of which must see its task succeed."""
        with ExitStack() as stack:
            if subscribers:
                with self.stage.connect(self.database) as connection:
                    row = connection.execute(_IDS, [subscribers]).fetchone()
                watched = _Watched(self.port, self.env, row[0] if row else "")
                client = Client(watched, "ends", subscribers, [1])
                stack.callback(client.stop)
                client.line()
            yield
            if subscribers:
                client.line()

    def memory(self) -> dict[str, Memory]:
        """Give the memory of web, engine and worker."""
        return self.processes.memory()
