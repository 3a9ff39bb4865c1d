"""A whole platform of real processes on servers of its own, to be broken and healed.

Two workers, two engines, one web process; PostgreSQL with its safety on; Valkey or RabbitMQ as the
broker. A client in a thread goes on submitting over HTTP while faults happen, each task with its
own Idempotency-Key, and repeats what got no answer: what it was told is accepted is what the
checkers look for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tasks_app.management.servers import Postgres, Valkey
from tests.processes import ROOT, Process, wait_for
from tests.protocol.checkers import History, read_history, violations
from tests.rabbitmq import RabbitMQ, free_port

FINISHED = ("success", "failed", "error", "cancelled", "timeout")
MAKE_KEY = """
import django
django.setup()
from tasks_app.models import Tenant
from tasks_app.services.keys import SCOPES, create_api_key
tenant, _ = Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})
print(create_api_key(tenant=tenant, name="faults", scopes=SCOPES)[1])
"""


class Platform:
    """The platform under test.

    Args:
        directory: holds all it writes.
        broker: RabbitMQ, or None for a Valkey of its own.
        programs: PostgreSQL's, or None for the embedded ones.
    """

    PARTS = ("web", "engine-1", "engine-2", "worker-1", "worker-2")

    def __init__(
        self, directory: Path, *, broker: RabbitMQ | None, programs: Path | None = None
    ) -> None:
        self.directory = directory
        self.rabbitmq = broker
        self.port = free_port()
        self.ledger = directory / "ledger"
        self.ledger.touch()
        self.postgres = Postgres(
            directory / "postgres", directory / "run", log=directory / "pg.log", binaries=programs
        )
        self.valkey = Valkey(
            directory / "valkey", directory / "run" / "valkey.sock", log=directory / "valkey.log"
        )
        self.parts: dict[str, Process] = {}
        self.accepted: set[uuid.UUID] = set()
        self.token = ""

    def environment(self) -> dict[str, str]:
        socket = self.valkey.socket
        return {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATABASE_URL": self.postgres.url("taskmill"),
            "BROKER_URL": self.rabbitmq.url if self.rabbitmq else f"redis+socket://{socket}",
            "REDIS_URL": f"unix://{socket}?db=1",
            "PORT": str(self.port),
            "TASKMILL_HANDLER_MODULES": "tests.faults.handlers",
            "TASKMILL_LEASE_SECONDS": "3",
            "TASKMILL_LEASE_MARGIN_SECONDS": "1",
            "TASKMILL_LEASE_GRACE_SECONDS": "1",
            "TASKMILL_KILL_GRACE_SECONDS": "1",
            "TASKMILL_SHUTDOWN_GRACE_SECONDS": "1",
            "TASKMILL_LEADER_LEASE_SECONDS": "1.5",
            "TASKMILL_PUBLISH_GRACE_SECONDS": "3",
            "TASKMILL_REDISPATCH_SECONDS": "5",
            "TASKMILL_MAX_RESCUES": "20",
            "TASKMILL_RATE_LIMIT": "",
        }

    def start(self) -> None:
        """Start everything and wait until it serves."""
        self.postgres.start()
        self.postgres.create_database("taskmill")
        self.valkey.start()
        self.run("manage.py", "migrate", "--verbosity", "0")
        self.token = self.run("-c", MAKE_KEY).strip().splitlines()[-1]
        for part in self.PARTS:
            self.start_part(part)
        self.wait_until_ready()

    def run(self, *arguments: str) -> str:
        """Run Python beside it and give what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def start_part(self, name: str) -> None:
        """Start one process."""
        kind = name.partition("-")[0]
        commands: dict[str, Sequence[str]] = {
            "web": ("uvicorn", "config.asgi:application", "--port", str(self.port)),
            "engine": ("django", "engine"),
            "beat": ("celery", "-A", "config", "beat", "--pidfile="),
            "worker": (
                *("django", "worker"),
                *("--concurrency", "2", "-n", f"{name}-{uuid.uuid4().hex[:6]}@test"),
            ),
        }
        environment = self.environment() | {"PGAPPNAME": name}
        self.parts[name] = Process(
            [sys.executable, "-m", *commands[kind]], name=name, environment=environment
        )

    def kill_part(self, name: str) -> None:
        """SIGKILL a process alone; what it started is not touched."""
        self.parts[name].popen.kill()
        self.parts[name].popen.wait()

    def wait_until_ready(self) -> None:
        """Wait until the API answers and the workers of now are seen, not those killed before."""

        def is_ready() -> bool:
            for name, part in self.parts.items():
                assert part.popen.poll() is None, f"{name} ended:\n{part.output()[-12000:]}"
            try:
                answer = httpx.get(f"http://127.0.0.1:{self.port}/livez", timeout=2)
            except httpx.TransportError:
                return False
            seen = "SELECT name FROM taskmill_worker WHERE last_seen_at > now() - interval '3 s'"
            pids = {name.rpartition(":")[2] for (name,) in self.query(seen)}
            workers = {str(one.pid) for name, one in self.parts.items() if "worker" in name}
            return answer.status_code == 200 and workers <= pids

        wait_for(is_ready, seconds=90, reason="the platform does not get ready")

    def query(self, statement: str, *values: Any) -> list[Any]:
        """Ask the database."""
        with psycopg.connect(self.postgres.url("taskmill"), autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def clock_ahead(self) -> float:
        """Give what the database's clock is ahead of the ledger's: by the quickest of ten looks."""
        looks = []
        with psycopg.connect(self.postgres.url("taskmill"), autocommit=True) as connection:
            for _ in range(10):
                began = time.monotonic()
                row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
                ended = time.monotonic()
                looks.append((ended - began, float(row[0]) - (began + ended) / 2 if row else 0.0))
        return min(looks)[1]

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Call the API once."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}", **named},
            timeout=20,
        )

    def submit(
        self, task_type: str = "fault.work", *, seconds: float = 0.0, **options: Any
    ) -> uuid.UUID:
        """Submit until accepted, always with the same Idempotency-Key."""
        key = uuid.uuid4().hex
        payload = {"ledger": str(self.ledger), "seconds": seconds}
        body = {"type": task_type, "payload": payload, **options}

        def try_once() -> uuid.UUID | None:
            try:
                answer = self.request("POST", "/tasks", body, Idempotency_Key=key)
            except httpx.TransportError:
                return None
            if answer.status_code in {503, 409}:
                return None
            assert answer.status_code == 202, answer.text
            return uuid.UUID(answer.json()["id"])

        task_id = wait_for(try_once, seconds=60, reason="the submission is never accepted")
        self.accepted.add(task_id)
        return task_id

    def submit_many(self, count: int, *, seconds: float, **options: Any) -> list[str]:
        """Submit alike tasks of `fault.work` in one call; gives their ids."""
        payload = {"ledger": str(self.ledger), "seconds": seconds}
        item = {"type": "fault.work", "payload": payload, **options}
        answer = self.request("POST", "/tasks/bulk", {"items": [item] * count})
        assert answer.status_code == 202, answer.text
        found = [one["id"] for one in answer.json()["results"]]
        self.accepted.update(uuid.UUID(one) for one in found)
        return found

    def states(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
        """Give the states of tasks."""
        rows = self.query("SELECT id, state FROM taskmill_task WHERE id = ANY(%s)", list(ids))
        return dict(rows)

    def wait_for_state(self, task_id: uuid.UUID, *states: str, seconds: float = 30) -> str:
        """Wait until a task is in one of the states."""
        return wait_for(
            lambda: (found := self.states([task_id])[task_id]) in states and found,
            seconds=seconds,
            reason=f"{task_id} does not become {' or '.join(states)}: {self.tail()}",
        )

    def drain(self, *, seconds: float = 90) -> float:
        """Wait until nothing accepted is unfinished; gives the seconds that took."""
        started = time.monotonic()
        open_tasks = "SELECT count(*) FROM taskmill_task WHERE finished_at IS NULL"

        def is_done() -> bool:
            try:
                return bool(self.query(open_tasks)[0][0] == 0)
            except psycopg.Error:
                return False

        wait_for(is_done, seconds=seconds, reason=f"not drained: {self.tail()}")
        return time.monotonic() - started

    def tail(self) -> str:
        """Give the ends of all logs and what is unfinished."""
        rows = self.query(
            "SELECT id, type, state, epoch, sweeps, rescues, run_at - now() FROM taskmill_task"
            " WHERE finished_at IS NULL LIMIT 10"
        )
        logs = "\n".join(
            f"--- {name}\n{part.output()[-1500:]}" for name, part in self.parts.items()
        )
        return f"{rows}\n{logs}"

    def history(self) -> History:
        """Read the store in one snapshot."""
        with psycopg.connect(self.postgres.url("taskmill")) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return read_history(connection.cursor())

    def check(self) -> None:
        """Hold the store and the ledger against what was accepted (checkers C1 to C8)."""
        history = self.history()
        found = violations(history, accepted=self.accepted, must_be_finished=True)
        assert not found, found[:5]
        self._check_ledger(history)

    def _check_ledger(self, history: History) -> None:
        starts: dict[tuple[str, str], int] = {}
        ends: set[tuple[str, str]] = set()
        for line in self.ledger.read_text().splitlines():
            word, task, epoch, *_ = line.split()
            if word == "start":
                starts[(task, epoch)] = starts.get((task, epoch), 0) + 1
            elif word == "end":
                ends.add((task, epoch))
        doubled = [key for key, count in starts.items() if count > 1]
        assert doubled == [], f"C5 an epoch was run twice: {doubled}"
        types = dict(self.query("SELECT id::text, type FROM taskmill_task"))
        for task in history.tasks:
            if task.state == "success" and types[str(task.id)] == "fault.work":
                assert (str(task.id), str(task.epoch)) in ends, f"C7 success without an end {task}"

    def stop(self) -> None:
        """Stop everything."""
        for part in self.parts.values():
            if part.popen.poll() is None:
                part.kill()
        self.valkey.stop()
        self.postgres.stop()


class Client(threading.Thread):
    """Submits small tasks one after the other until the block ends."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self._end = threading.Event()
        self.fault: BaseException | None = None

    def run(self) -> None:
        number = 0
        while not self._end.wait(0.05):
            number += 1
            try:
                self._platform.submit(seconds=0.3 if number % 5 == 0 else 0.0)
            except BaseException as error:  # noqa: BLE001 - told to the test at the end
                self.fault = error
                return

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join(90)
        if self.fault is not None:
            raise self.fault
