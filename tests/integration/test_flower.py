"""Flower beside a real worker: it shows tasks under their own names, and changes nothing."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.feeding import submit, wait_state
from tests.processes import Process, process_environment, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
LOGIN = ("operator", "not-a-real-password")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with (
        django_db_blocker.unblock(),
        running_worker(arguments=("-E",), TASKMILL_CELERY_EVENTS="1") as process,
    ):
        yield process


@pytest.fixture(scope="module")
def flower(worker: Process, django_db_blocker: Any) -> Iterator[httpx.Client]:
    """A logged-in client of a running Flower, started as the Procfile does."""
    port = free_port()
    command = [sys.executable, "-m", "celery", "-A", "config", "flower", "--address=127.0.0.1"]
    command += [f"--port={port}", "--url_prefix=flower", "--read_only", "--max_tasks=10000"]
    command += [f"--basic_auth={':'.join(LOGIN)}"]
    with django_db_blocker.unblock():
        environment = process_environment()
    process = Process(command, name="flower", environment=environment)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/flower", auth=LOGIN) as client:
        try:
            wait_for(lambda: _is_up(client, process), seconds=60, reason="Flower does not answer")
            wait_for(lambda: _known_workers(client), seconds=60, reason="Flower sees no worker")
            yield client
        finally:
            if process.popen.poll() is None:
                process.stop()


def _is_up(client: httpx.Client, process: Process) -> bool:
    if process.popen.poll() is not None:
        raise AssertionError(f"Flower ended:\n{process.output()[-4000:]}")
    try:
        return client.get("/healthcheck").status_code == 200
    except httpx.TransportError:
        return False


def _known_workers(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/workers").json()
    return found


def _shown(client: httpx.Client, task_id: Any, state: str = "SUCCESS") -> dict[str, Any] | None:
    found: dict[str, Any] = client.get("/api/tasks").json()
    one: dict[str, Any] | None = found.get(str(task_id))
    return one if one and one["state"] == state else None


def test_a_task_is_shown_under_its_own_name_and_id(flower: httpx.Client) -> None:
    row = wait_state(submit("demo.echo", {"secret": "payloads stay in the database"}))
    shown = wait_for(lambda: _shown(flower, row.id), seconds=30)
    assert shown["name"] == "demo.echo"
    assert shown["uuid"] == str(row.id)
    assert "payloads stay" not in str(shown)


def test_a_failure_is_shown_as_one_and_a_retry_on_its_way_to_success(flower: httpx.Client) -> None:
    row = wait_state(submit("demo.fail", {"code": "E1", "message": "no"}))
    assert row.state == "failed"
    failed = wait_for(lambda: _shown(flower, row.id, "FAILURE"), seconds=30)
    assert failed["name"] == "demo.fail"
    retried = submit("demo.fail", {"code": "TIMEOUT", "permanent": False, "message": "again"})
    wait_state(retried, "retrying")
    assert wait_for(lambda: _shown(flower, retried, "RETRY"), seconds=30)["name"] == "demo.fail"


def test_flower_changes_nothing_and_asks_for_the_password(flower: httpx.Client) -> None:
    task_id = submit("demo.echo", {})
    answer = flower.post(f"/api/task/revoke/{task_id}", params={"terminate": "true"})
    assert answer.status_code in {403, 405}
    answer = flower.post("/api/task/async-apply/demo.echo", json={"args": []})
    assert answer.status_code in {403, 405}
    assert wait_state(task_id).state == "success"
    without = httpx.get(f"{flower.base_url}api/tasks")
    assert without.status_code == 401
