"""How attempts are stopped from outside: timeouts, deaths, cancels, shutdowns.

Every case leaves no process behind.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.execution.child import LAST_MESSAGES_TRIES
from tasks_app.models import WorkerProcess
from tests.feeding import events_of, submit, task, wait_state
from tests.processes import Process, running_worker, start_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with django_db_blocker.unblock(), running_worker() as process:
        yield process


def cancel(task_id: uuid.UUID, *, grace: float | None = None) -> str | None:
    with connection.cursor() as cursor:
        return transitions.request_cancel(
            cursor,
            tenant_id=task(task_id).tenant_id,
            task_id=task_id,
            actor="tests",
            reason="enough",
            grace_seconds=grace,
        )


def is_gone(pid: int) -> bool:
    """Dead, or dead and waiting for its parent to notice."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_that_ends_waits_a_second_for_its_last_message_to_be_read(worker: Process) -> None:
    assert wait_state(submit("test.patience")).result == LAST_MESSAGES_TRIES


def test_a_process_timeout_is_raised_in_the_handler(worker: Process) -> None:
    row = wait_state(submit("demo.slow", {"seconds": 60}, process_timeout=1, max_retry=0))
    assert (row.state, row.error["code"], row.error["type"]) == (
        "timeout",
        "TIMEOUT",
        "tasks_app.errors.ProcessTimeout",
    )


def test_a_process_timeout_is_retried_while_attempts_remain(worker: Process) -> None:
    row = wait_state(submit("demo.slow", {"seconds": 60}, process_timeout=1, max_retry=1))
    assert (row.state, row.attempt) == ("timeout", 2)


def test_a_handler_that_swallows_everything_is_killed_at_its_deadline(worker: Process) -> None:
    children = {child.pid for child in worker.children()}
    row = wait_state(submit("test.stubborn", process_timeout=1, max_retry=0))
    assert (row.state, row.error["code"]) == ("timeout", "TIMEOUT")
    assert "killed" in row.error["message"]
    wait_for(lambda: len(worker.children()) == len(children) == 2)
    assert {child.pid for child in worker.children()} != children
    assert wait_state(submit("demo.echo", 1)).state == "success"


def test_a_child_that_dies_loses_its_attempt_at_once(worker: Process, tmp_path: Path) -> None:
    row = wait_state(submit("test.exit", {"path": str(tmp_path / "x")}, max_retry=0), seconds=5)
    assert (row.state, row.error["code"], row.rescues) == ("error", "WORKER_LOST", 1)
    wait_for(lambda: len(worker.children()) == 2)


def test_a_cancelled_task_stops_cooperatively_and_at_once(worker: Process) -> None:
    task_id = submit("demo.slow", {"seconds": 60})
    wait_state(task_id, "running")
    assert cancel(task_id) == "cancelling"
    row = wait_state(task_id, seconds=2)
    assert row.state == "cancelled"
    names = [name for name, _ in events_of(task_id)]
    assert names[-1] == "task.cancelled"
    assert names.index("task.cancel_requested") < len(names) - 1
    assert events_of(task_id)[-1][1] == {"how": "cooperative", "by": "tests", "reason": "enough"}


def test_an_async_handler_is_cancelled_through_its_loop(worker: Process) -> None:
    task_id = submit("test.async", {"seconds": 60.0})
    wait_state(task_id, "running")
    cancel(task_id)
    assert wait_state(task_id, seconds=2).state == "cancelled"
    assert wait_state(submit("test.async", {"seconds": 0.01})).state == "success"


def test_nothing_survives_the_cancel_of_a_task_with_a_stubborn_daemon(
    worker: Process, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    task_id = submit("test.daemon", {"path": str(note)})
    wait_for(lambda: note.exists() and note.read_text())
    daemon = psutil.Process(int(note.read_text()))
    child = next(c for c in worker.children() if daemon in c.children(recursive=True))
    cancel(task_id, grace=0.3)
    row = wait_state(task_id, seconds=10)
    assert row.state == "cancelled"
    assert is_gone(daemon.pid)
    assert is_gone(child.pid)
    types = [name for name, _ in events_of(task_id)]
    assert types[-3:] == ["task.cancel_requested", "task.cancel_delivered", "task.cancelled"]
    assert events_of(task_id)[-1][1]["how"] == "sigkill"
    wait_for(lambda: len(worker.children()) == 2)


def test_the_daemon_of_a_child_that_died_is_killed_too(worker: Process, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    task_id = submit("test.daemon", {"path": str(note)}, max_retry=0)
    wait_for(lambda: note.exists() and note.read_text())
    daemon = psutil.Process(int(note.read_text()))
    child = next(c for c in worker.children() if daemon in c.children(recursive=True))
    child.kill()
    assert wait_state(task_id).state == "error"
    wait_for(lambda: is_gone(daemon.pid), seconds=5)


def test_an_attempt_whose_lease_was_taken_is_killed_and_writes_nothing(worker: Process) -> None:
    task_id = submit("test.stubborn", max_retry=0)
    wait_state(task_id, "running")
    children = {child.pid for child in worker.children()}
    with connection.cursor() as cursor:
        assert transitions.lose(cursor, task_id, epoch=1, max_rescues=0)
    wait_for(lambda: {child.pid for child in worker.children()} != children)
    wait_for(lambda: len(worker.children()) == 2)
    assert task(task_id).state == "error"


def test_a_stopping_worker_hands_its_tasks_back_without_burning_the_attempt(
    valkey: Any, tmp_path: Path
) -> None:
    process = start_worker(queues="stopping")
    note = tmp_path / "pid"
    long = submit("test.daemon", {"path": str(note)}, queue="stopping")
    wait_for(lambda: note.exists() and note.read_text())
    assert process.stop(seconds=20) == 0, process.output()[-3000:]
    row = task(long)
    assert (row.state, row.attempt, row.epoch, row.interrupts) == ("queued", 0, 1, 1)
    assert not WorkerProcess.objects.filter(name=row.worker).exists()
    assert is_gone(int(note.read_text()))
    assert "Traceback" not in process.output(), process.output()[-3000:]


@pytest.mark.parametrize("command", ["manage.py worker", "-m celery -A config worker"])
def test_a_stopping_worker_lets_short_tasks_finish(valkey: Any, command: str) -> None:
    process = start_worker(command=command, queues="stopping", TASKMILL_SHUTDOWN_GRACE_SECONDS="15")
    short = submit("demo.slow", {"seconds": 1.5}, queue="stopping")
    wait_for(lambda: task(short).state == "running")
    assert process.stop(seconds=20) == 0
    assert task(short).state == "success"


def test_a_killed_worker_takes_its_children_with_it(valkey: Any) -> None:
    process = start_worker(queues="stopping")
    children = process.children()
    os.kill(process.pid, signal.SIGKILL)
    process.popen.wait()
    wait_for(lambda: all(is_gone(child.pid) for child in children))
