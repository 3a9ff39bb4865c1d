"""A worker outlives the loss of its Valkey, and of the table that Celery stores failures in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery.result import AsyncResult
from django.db import connection

from config.celery import app
from tasks_app.management.servers import Valkey
from tests.environment import RUN_DIRECTORY
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey that the test may kill."""
    server = Valkey(
        RUN_DIRECTORY / "lost", RUN_DIRECTORY / "lost" / "s.sock", log=RUN_DIRECTORY / "lost.log"
    )
    server.start()
    yield server
    server.stop()


def send(url: str, name: str, *arguments: Any, **options: Any) -> AsyncResult[Any]:
    with kombu.Connection(url) as broker:
        return app.send_task(name, arguments, connection=broker, **options)


def test_a_worker_with_unacknowledged_messages_reconnects_to_a_valkey_that_was_killed(
    valkey: Any, own_valkey: Valkey, tmp_path: Path
) -> None:
    url = f"redis+socket://{own_valkey.socket}"
    with running_worker(TASKMILL_APPS="tests.ordinary", BROKER_URL=url) as worker:
        started = tmp_path / "started"
        send(url, "tests.ordinary.tasks.wait_for_file", str(started), str(tmp_path / "go"))
        wait_for(started.exists)
        try:
            for _ in range(2):
                own_valkey.stop(is_hurried=lambda: True)
                own_valkey.start()
                late = send(url, "tests.ordinary.tasks.add", 1, 2)
                wait_for(lambda late=late: late.ready() or worker.popen.poll() is not None)
                assert worker.popen.poll() is None, worker.output()[-6000:]
                assert late.get() == 3
        finally:
            (tmp_path / "go").touch()


def test_a_worker_outlives_an_unknown_task_whose_failure_it_cannot_store(
    valkey: Any, own_valkey: Valkey
) -> None:
    """What Celery stores of it, it stores from the main process, and raises where it cannot."""
    url = f"redis+socket://{own_valkey.socket}"
    with running_worker(TASKMILL_APPS="tests.ordinary", BROKER_URL=url) as worker:
        with renamed("django_celery_results_taskresult"):
            send(url, "tests.ordinary.tasks.never_written")
            wait_for(
                lambda: "cannot be stored" in worker.output() or worker.popen.poll() is not None
            )
        late = send(url, "tests.ordinary.tasks.add", 1, 2)
        wait_for(lambda: late.ready() or worker.popen.poll() is not None)
        assert worker.popen.poll() is None, worker.output()[-6000:]
        assert late.get() == 3


@contextmanager
def renamed(table: str) -> Iterator[None]:
    """Take a table away for the duration."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO taken_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE taken_away RENAME TO {table}")
