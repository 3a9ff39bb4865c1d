"""A worker outlives its Valkey, whatever it held of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
from celery.result import AsyncResult

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
