"""Real processes for tests: a Celery worker on the fixtures' servers, hints, bounded waiting."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from django.db import connection
from kombu import Connection as Broker
from kombu import Exchange, Producer

from config import settings
from tests.environment import RUN_DIRECTORY

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent


def wait_for(what: Callable[[], T], *, seconds: float = 30.0, reason: str = "") -> T:
    """Poll until `what` gives something true; the error shows the last value and `reason`."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {reason or what}; last: {value!r}")
        time.sleep(0.02)


class Process:
    """A child process with its output in a log file."""

    def __init__(self, command: list[str], *, name: str, environment: dict[str, str]) -> None:
        self.log = RUN_DIRECTORY / f"{name}-{uuid.uuid4().hex[:8]}.log"
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.process = psutil.Process(self.popen.pid)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def children(self) -> list[psutil.Process]:
        """Its direct children that live."""
        return [
            child
            for child in self.process.children()
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    def stop(self, *, seconds: float = 30.0) -> int:
        """SIGTERM, wait, and kill what is left; gives the exit code."""
        tree = self._tree()
        self.popen.terminate()
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"did not stop within {seconds} s:\n{self.output()[-4000:]}"
            ) from None
        finally:
            for process in tree:
                if process.is_running():
                    process.kill()

    def kill(self) -> None:
        """SIGKILL the process and everything below it."""
        tree = self._tree()
        self.popen.kill()
        self.popen.wait()
        for process in tree:
            if process.is_running():
                process.kill()

    def _tree(self) -> list[psutil.Process]:
        try:
            return self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def database_url() -> str:
    """The test database's URL, for processes that are to see what the test wrote."""
    found = connection.settings_dict
    return (
        f"postgresql://{found['USER']}@/{found['NAME']}?host={found['HOST']}&port={found['PORT']}"
    )


def process_environment(**variables: str) -> dict[str, str]:
    """What a Taskmill process of a test is started with.

    A worker hands nothing back because a new child is slow to start: most tests dispatch once, and
    nobody would hand it out again.
    """
    return {
        "DATABASE_URL": database_url(),
        "TASKMILL_HANDLER_MODULES": "tests.handlers",
        "TASKMILL_LEASE_SECONDS": "3",
        "TASKMILL_LEASE_MARGIN_SECONDS": "1",
        "TASKMILL_KILL_GRACE_SECONDS": "1",
        "TASKMILL_SHUTDOWN_GRACE_SECONDS": "1",
        "TASKMILL_HELD_UP_SECONDS": "60",
        "TASKMILL_LOG_LEVEL": "INFO",
        **variables,
    }


def start_worker(
    *,
    concurrency: int = 2,
    queues: str = "",
    arguments: tuple[str, ...] = (),
    command: str = "manage.py worker",
    **variables: str,
) -> Process:
    """Start a Celery worker and wait until it consumes (its row is in the database).

    Args:
        variables: environment beside `process_environment`.
    """
    words = [sys.executable, *command.split(), "--concurrency", str(concurrency)]
    words += ["-n", f"{uuid.uuid4().hex[:8]}@test", *(["-Q", queues] if queues else [])]
    process = Process(
        [*words, *arguments], name="worker", environment=process_environment(**variables)
    )

    def is_ready() -> bool:
        if process.popen.poll() is not None:
            raise AssertionError(f"the worker ended:\n{process.output()[-6000:]}")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM taskmill_worker WHERE name LIKE %s", [f"%:{process.pid}"])
            return cursor.fetchone() is not None

    try:
        wait_for(is_ready, seconds=60, reason="the worker does not report itself")
    except AssertionError:
        print(process.output()[-6000:])
        process.kill()
        raise
    return process


@contextmanager
def running_worker(**options: Any) -> Iterator[Process]:
    """A worker for the duration."""
    worker = start_worker(**options)
    try:
        yield worker
    finally:
        if worker.popen.poll() is None:
            worker.stop()


def publish_hints(hints: list[tuple[uuid.UUID, int, str, str]], *, url: str = "") -> None:
    """Publish hints `(task id, dispatch_seq, type, queue)` as the dispatcher does."""
    options = {"confirm_publish": True}
    with (
        Broker(url or settings.BROKER_URL, transport_options=options) as broker,
        broker.channel() as channel,
    ):
        producer = Producer(channel, exchange=Exchange("taskmill", "topic"), serializer="json")
        for queue in {hint[3] for hint in hints}:
            settings.celery_queue(queue)(channel).declare()
        for task_id, seq, task_type, queue in hints:
            producer.publish(
                [[seq], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
                routing_key=queue,
                correlation_id=str(task_id),
                headers={
                    "lang": "py",
                    "task": task_type,
                    "id": str(task_id),
                    "root_id": str(task_id),
                    "parent_id": None,
                    "group": None,
                    "argsrepr": "",
                    "kwargsrepr": "",
                },
            )
