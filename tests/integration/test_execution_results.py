"""`AsyncResult` of platform tasks reads rows; ordinary tasks, groups and chords work as ever."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chord, group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from django_celery_results.models import TaskResult

from config import celery_app
from tasks_app.errors import ConfigurationError
from tasks_app.execution.results import TaskFailed
from tests.feeding import events_of, submit, task, wait_state
from tests.processes import Process, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with django_db_blocker.unblock(), running_worker(TASKMILL_APPS="tests.ordinary") as process:
        yield process


def result_of(task_id: uuid.UUID) -> AsyncResult[Any]:
    return AsyncResult(str(task_id), app=celery_app)


def test_the_result_of_a_platform_task_comes_from_its_row(worker: Process) -> None:
    result = result_of(submit("demo.echo", {"a": [1]}))
    assert result.get(timeout=10) == {"a": [1]}
    assert (result.state, result.ready(), result.name) == ("SUCCESS", True, "demo.echo")
    assert TaskResult.objects.count() == 0


def test_a_running_task_shows_its_progress(worker: Process, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    result = result_of(
        submit("test.progress", {"reports": 4, "hold_at": 1, "path": str(hold)}, metadata={})
    )
    wait_for(hold.exists)
    wait_for(lambda: result.state == "PROGRESS")
    assert result.info == {"current": 1, "total": None, "percent": 25.0, "message": "at 1"}
    hold.unlink()
    assert result.get(timeout=10) is None


def test_failures_cancels_and_waits_have_celerys_states(worker: Process) -> None:
    failed = result_of(submit("demo.fail", {"code": "NO_STOCK", "message": "none left"}))
    with pytest.raises(TaskFailed, match="NO_STOCK: none left") as caught:
        failed.get(timeout=10)
    assert (caught.value.code, failed.state) == ("NO_STOCK", "FAILURE")
    assert "Permanent" in failed.traceback
    assert result_of(submit("demo.echo", 1, delay_seconds=60)).state == "PENDING"


def test_revoke_with_terminate_cancels_the_task(worker: Process) -> None:
    task_id = submit("demo.slow", {"seconds": 60})
    wait_state(task_id, "running")
    result = result_of(task_id)
    result.revoke(terminate=True)
    row = wait_state(task_id, seconds=5)
    assert (row.state, row.cancel_requested_by) == ("cancelled", "celery:revoke")
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get(timeout=1)


def test_an_unknown_types_hint_leaves_no_celery_result(worker: Process) -> None:
    task_id = submit("nobody.knows")
    wait_for(lambda: task(task_id).hand_backs == 1)
    assert TaskResult.objects.count() == 0
    assert result_of(task_id).state == "PENDING"
    assert events_of(task_id)


def test_celery_calls_of_a_platform_task_are_refused() -> None:
    celery_app.loader.import_default_modules()
    echo = celery_app.tasks["demo.echo"]
    for call in (echo.delay, echo.apply, echo.apply_async, lambda p: echo.s(p).apply_async()):
        with pytest.raises(ConfigurationError, match="submit"):
            call({"a": 1})


def test_ordinary_groups_and_chords_keep_working(worker: Process) -> None:
    from tests.ordinary.tasks import add, total

    assert add.delay(1, 2).get(timeout=10) == 3
    assert group(add.s(n, n) for n in range(3)).apply_async().get(timeout=10) == [0, 2, 4]
    assert chord((add.s(n, n) for n in range(3)), total.s()).apply_async().get(timeout=10) == 6
