"""Django's task framework on the platform: `enqueue` here, a real worker, `get_result` here."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.test import override_settings
from django_tasks import TaskResult, TaskResultStatus, default_task_backend, task_backends
from django_tasks import task as django_task
from django_tasks.exceptions import (
    InvalidTaskError,
    TaskResultDoesNotExist,
    TaskResultMismatch,
)
from django_tasks.signals import task_enqueued

from tasks_app.django_tasks import Backend
from tasks_app.errors import ProcessTimeout, TaskCancelled
from tasks_app.models import Task
from tasks_app.public import ValidationFailed, cancel
from tasks_app.public import submit as submit_plainly
from tests.enqueued import tasks
from tests.factories import make_tenant
from tests.feeding import feed, wait_state
from tests.processes import Process, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with django_db_blocker.unblock(), running_worker(TASKMILL_APPS="tests.enqueued") as process:
        yield process


@pytest.fixture(autouse=True)
def tenant() -> None:
    make_tenant("default")


def ended(result: TaskResult[Any]) -> TaskResult[Any]:
    wait_state(uuid.UUID(result.id))
    result.refresh()
    return result


def test_an_enqueued_function_runs_in_a_worker_and_its_result_is_read(worker: Process) -> None:
    result = tasks.add.enqueue(1, right=2)
    assert (result.status, result.is_finished, result.attempts) == (READY, False, 0)
    assert (result.args, result.kwargs) == ([1], {"right": 2})
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    ended(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 1)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.started_at == result.last_attempted_at
    assert result.worker_ids[0].endswith(str(worker.pid))
    assert tasks.add.get_result(result.id).return_value == 3
    assert Task.objects.get(id=result.id).type == "django.tests.enqueued.tasks.add"


def test_coroutines_run_and_every_call_has_its_asynchronous_twin(worker: Process) -> None:
    enqueued = async_to_sync(tasks.add_later.aenqueue)(1, 2)
    wait_state(uuid.UUID(enqueued.id))

    async def read() -> TaskResult[Any]:
        await enqueued.arefresh()
        return await tasks.add_later.aget_result(enqueued.id)

    found = async_to_sync(read)()
    assert found.return_value == enqueued.return_value == [1, 2]


def test_a_failure_names_its_exception_and_shows_its_traceback(worker: Process) -> None:
    result = ended(tasks.fail.enqueue(3))
    assert (result.status, result.attempts) == (FAILED, 1)
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value
    [error] = result.errors
    assert error.exception_class is tasks.OutOfStock
    assert "no 3 left" in error.traceback
    assert "in fail" in error.traceback


def test_a_value_that_json_cannot_carry_fails_the_task(worker: Process) -> None:
    [error] = ended(tasks.unstorable.enqueue()).errors
    assert error.exception_class is TypeError
    assert "returned value is a object" in error.traceback


def test_a_context_counts_the_attempts_and_the_platforms_own_is_there_too(worker: Process) -> None:
    result = ended(tasks.told.enqueue("half"))
    assert result.return_value == {"attempt": 1, "id": result.id, "word": "half"}
    assert Task.objects.get(id=result.id).progress_message == "half"


def test_a_running_task_says_so_and_a_cancelled_one_has_failed(
    worker: Process, tmp_path: Path
) -> None:
    result = tasks.hold.enqueue(str(tmp_path / "hold"))
    feed()
    wait_for((tmp_path / "hold").exists)
    result.refresh()
    assert (result.status, result.attempts, result.finished_at) == (RUNNING, 1, None)
    assert result.started_at is not None
    cancel(uuid.UUID(result.id), reason="no need")
    ended(result)
    assert (result.status, result.errors[0].exception_class) == (FAILED, TaskCancelled)


def test_a_rolled_back_transaction_enqueues_nothing() -> None:
    with transaction.atomic():
        result = tasks.add.enqueue(1)
        assert tasks.add.get_result(result.id).status == READY
        transaction.set_rollback(True)
    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


def test_priority_queue_and_time_come_to_the_row_and_back() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    later = tasks.fail.using(priority=-100, queue_name="slow", run_after=at)
    result = later.enqueue(1)
    row = Task.objects.get(id=result.id)
    assert (row.priority, row.queue, row.run_at, row.state) == (-100, "slow", at, "scheduled")
    assert row.max_retry == 0
    assert default_task_backend.get_result(result.id).task == later
    assert Task.objects.get(id=tasks.fail.enqueue(1).id).priority == 7


def test_what_no_worker_could_run_is_refused_at_the_call() -> None:
    def inside() -> None: ...

    for wrong in (inside, len):
        with pytest.raises(InvalidTaskError, match="module level"):
            django_task(wrong)
    with pytest.raises(InvalidTaskError, match="decorate"):
        django_task(tasks.undecorated).enqueue()
    with pytest.raises(InvalidTaskError, match="no queue name"):
        tasks.add.using(queue_name="NO QUEUE")
    with pytest.raises(InvalidTaskError, match="priority"):
        tasks.add.using(priority=101)
    assert not Task.objects.exists()


@pytest.mark.parametrize("value", [datetime.now(UTC), {1, 2}, object(), {1: "a"}, [[uuid.uuid4()]]])
def test_arguments_that_json_cannot_carry_are_refused_at_the_call(value: Any) -> None:
    with pytest.raises(TypeError):
        tasks.add.enqueue(value)
    assert not Task.objects.exists()


def test_a_payload_leads_to_declared_tasks_alone_and_has_to_fit_them() -> None:
    task_type = "django.tests.enqueued.tasks.add"
    for payload in ({"args": [1, 2, 3]}, {"kwargs": {"no": 1}}, {"func": "os.system"}, [1]):
        with pytest.raises(ValidationFailed):
            submit_plainly(task_type, payload)
    with pytest.raises(ValidationFailed):
        submit_plainly(task_type, {"args": [1], "task": "os.system"})


def test_results_of_other_tasks_types_and_ids_do_not_exist() -> None:
    other = submit_plainly("demo.echo", 1)
    for result_id in (str(other.id), str(uuid.uuid4()), "no id"):
        with pytest.raises(TaskResultDoesNotExist):
            default_task_backend.get_result(result_id)
    with pytest.raises(TaskResultMismatch):
        tasks.add.get_result(tasks.fail.enqueue(1).id)


def test_options_say_for_whom_and_how_often() -> None:
    make_tenant("acme")
    other = {
        "BACKEND": "tasks_app.django_tasks.Backend",
        "QUEUES": ["default"],
        "OPTIONS": {"tenant": "acme"},
    }
    with override_settings(TASKS={"default": other}):
        result = tasks.add.enqueue(1)
        assert Task.objects.get(id=result.id).tenant.slug == "acme"
        assert tasks.add.get_result(result.id).status == READY
        with pytest.raises(InvalidTaskError, match="not valid"):
            tasks.add.using(queue_name="slow")
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result(result.id)


def test_the_backend_says_what_it_can_and_checks_its_options() -> None:
    backend = task_backends["default"]
    assert isinstance(backend, Backend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_priority
    assert backend.supports_get_result
    assert list(backend.check()) == []
    wrong = Backend("x", {"QUEUES": ["NO"], "OPTIONS": {"retries": 3}})
    assert [(found.id, "retries" in found.msg) for found in wrong.check()] == [
        ("taskmill.E007", True),
        ("taskmill.E007", False),
    ]


def test_enqueued_tasks_are_announced_by_djangos_signal() -> None:
    seen = []

    def note(sender: Any, task_result: TaskResult[Any], **_: Any) -> None:
        seen.append((sender, task_result.id))

    task_enqueued.connect(note)
    try:
        result = tasks.add.enqueue(1)
    finally:
        task_enqueued.disconnect(note)
    assert seen == [(Backend, result.id)]


def test_the_platform_starts_where_no_task_framework_is_installed() -> None:
    code = (
        "import sys; sys.modules['django_tasks'] = None; sys.modules['django.tasks'] = None\n"
        "import django; django.setup()\n"
        "from django.core.management import call_command; call_command('check')\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_an_exception_of_the_platform_has_a_class() -> None:
    from tasks_app.django_tasks import _error

    known = _error({"type": "tasks_app.errors.ProcessTimeout"}, "t")
    assert known.exception_class is ProcessTimeout
    assert issubclass(_error({"type": "taskmill", "message": "m"}, "").exception_class, Exception)
    assert asyncio.iscoroutinefunction(tasks.add_later.func)
