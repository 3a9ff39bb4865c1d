"""What `bench.live` and `bench.live_drain` measure on: the servers, a running task, the clients."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic_ns
from typing import Any, Protocol

import psycopg

from bench.processes import (
    ROOT,
    BenchFault,
    Process,
    accepts,
    free_port,
    run_command,
    wait_until,
)
from bench.systems import environment
from tasks_app.management.servers import Postgres, Valkey
from tests.environment import RUN_DIRECTORY

SOCKETS = {"channels": "--factory bench.live_channels:make_application"}
"""Transports that are not ours: what uvicorn is to serve."""

Commit = Callable[[int], tuple[list[int], int]]
"""Commits so many events; gives their numbers, and when they were committed."""

_RUNNING_TASK = """
from django.db import connection
from tasks_app import transitions
from tasks_app.models import Tenant
from tasks_app.services.keys import create_api_key
tenant, _ = Tenant.objects.get_or_create(slug="bench", defaults={"name": "bench"})
token = create_api_key(tenant=tenant, name="bench", scopes=["tasks:read"])[1]
task = transitions.NewTask(tenant_id=tenant.pk, type="bench.live", queue="bench", payload={},
    max_retry=0, process_timeout=86400)
with connection.cursor() as cursor:
    transitions.insert_tasks(cursor, [task])
    [[hint], _] = transitions.dispatch(cursor, queue="bench", room=1)
    [claim] = transitions.claim(cursor, [(hint.id, hint.dispatch_seq)], owner="bench",
        worker="bench:1", lease_seconds=86400)
print(token, task.id, claim.epoch)
"""


class Scene:
    """The servers, and a running task whose progress is written here."""

    def __init__(self, stack: ExitStack) -> None:
        sockets = RUN_DIRECTORY / "run"
        postgres = Postgres(RUN_DIRECTORY / "pg", sockets, log=RUN_DIRECTORY / "pg.log")
        valkey = Valkey(
            RUN_DIRECTORY / "valkey", sockets / "valkey.sock", log=RUN_DIRECTORY / "valkey.log"
        )
        for server in (postgres, valkey):
            server.start()
            stack.callback(server.stop)
        postgres.create_database("taskmill")
        self.postgres_pid = int((RUN_DIRECTORY / "pg" / "postmaster.pid").read_text().split()[0])
        self._stack = stack
        self.redis = f"unix://{valkey.socket}?db=1"
        self.port = free_port()
        self.env = environment(
            DJANGO_SETTINGS_MODULE="config.settings",
            SECRET_KEY="bench-only-" + "x" * 50,
            TASKMILL_VAR=str(RUN_DIRECTORY),
            DATABASE_URL=postgres.url("taskmill"),
            BROKER_URL=f"redis+socket://{valkey.socket}",
            REDIS_URL=self.redis,
            TASKMILL_LOG_LEVEL="WARNING",
            TASKMILL_MAX_STREAMS_PER_KEY="100000",
        )
        run_command(["manage.py", "migrate", "--verbosity", "0"], env=self.env)
        shown = run_command(
            ["manage.py", "shell", "--verbosity", "0", "-c", _RUNNING_TASK], env=self.env
        )
        token, self.task, self._epoch = shown.strip().splitlines()[-1].split()
        self.env["BENCH_TOKEN"] = token
        self.engine = self.process("engine", "manage.py", "engine", "--only", "relay")
        self.connection = psycopg.connect(postgres.url("taskmill"), autocommit=True)
        stack.callback(self.connection.close)
        self._number = 0

    def process(self, name: str, *words: str) -> Process:
        """Start a process that ends with the scene at the latest."""
        log = RUN_DIRECTORY / f"{name}.log"
        process = Process(name, [sys.executable, *words], env=self.env, log=log)
        self._stack.callback(process.stop)
        return process

    @contextmanager
    def web(self, transport: str = "") -> Iterator[Process]:
        """A fresh web process, so that no measurement inherits another's memory."""
        application = SOCKETS.get(transport, "config.asgi:application")
        words = f"-m uvicorn {application} --port {self.port} --loop uvloop"
        words += " --http config.http:Protocol --lifespan off --no-access-log --log-level warning"
        words += " --ws-max-size 262144 --ws-per-message-deflate false --ws-ping-interval 3600"
        process = self.process("web", *words.split())
        wait_until("the start of web", lambda: accepts(self.port), seconds=120)
        try:
            yield process
        finally:
            process.stop()

    def commit(self, count: int) -> tuple[list[int], int]:
        """Write so many numbered events in one transaction; give their numbers, and when it was
        committed, in nanoseconds.
        """
        from tasks_app.progress import save_progress

        numbers = list(range(self._number, self._number + count))
        self._number += count
        with self.connection.transaction():
            cursor: Any = self.connection.cursor()
            for number in numbers:
                found = save_progress(
                    cursor,
                    self.task,  # type: ignore[arg-type]  # the statement casts it
                    epoch=int(self._epoch),
                    percent=50.0,
                    message=str(number),
                    detail=None,
                )
                if found is None:
                    raise BenchFault("the task does not run")
        return numbers, monotonic_ns()


class Watched(Protocol):
    """What the connections watch: tasks, their ids joined by commas, at a web process."""

    port: int
    env: dict[str, str]
    task: str


class Client:
    """The process that holds the connections."""

    def __init__(
        self, watched: Watched, transport: str, connections: int, rounds: Sequence[int]
    ) -> None:
        words = [sys.executable, "-m", "bench.live_client", transport, str(watched.port)]
        words += [watched.task, *(str(one) for one in (connections, *rounds))]
        self._child = subprocess.Popen(
            words, cwd=ROOT, env=watched.env, stdout=subprocess.PIPE, text=True
        )

    def line(self) -> dict[str, Any]:
        """Wait for its next line."""
        assert self._child.stdout is not None
        text = self._child.stdout.readline()
        if not text:
            raise BenchFault(f"the clients ended with {self._child.wait()}")
        found: dict[str, Any] = json.loads(text)
        return found

    def stop(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
