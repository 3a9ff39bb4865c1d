"""Attempts in a real Celery worker: what a handler does is what the row says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks_app.models import StaleResult, Task
from tasks_app.models.history import Attempt, LogChunk
from tests.feeding import events_of, feed, submit, task, wait_state
from tests.processes import Process, publish_hints, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with django_db_blocker.unblock(), running_worker(TASKMILL_MAX_LOG_BYTES="20000") as process:
        yield process


def lines_of(task_id: Any) -> list[dict[str, Any]]:
    chunks = LogChunk.objects.filter(task_id=task_id).order_by("epoch", "number")
    return [line for chunk in chunks for line in chunk.lines]


def test_a_typed_payload_becomes_a_typed_result(worker: Process) -> None:
    row = wait_state(submit("test.sum", {"left": 2, "right": 3}))
    assert (row.state, row.result, row.progress) == ("success", {"total": 5}, 100)
    assert row.worker.startswith(worker.process.name()) or ":" in row.worker
    assert [name for name, _ in events_of(row.id)] == [
        "task.created",
        "task.dispatched",
        "task.started",
        "task.succeeded",
    ]


def test_a_task_that_submits_itself_for_ever_is_stopped_by_its_depth(worker: Process) -> None:
    first = wait_state(submit("test.descend", depth=15))
    second = wait_state(first.result)
    assert (second.parent, second.root, second.depth) == (first.id, first.id, 16)
    assert (second.state, second.error["type"]) == (
        "failed",
        "tasks_app.errors.TaskTooDeep",
    )
    assert not Task.objects.filter(parent=second.id).exists()


def test_a_payload_that_does_not_fit_fails_for_good(worker: Process) -> None:
    row = wait_state(submit("test.sum", {"left": "two", "right": 3}))
    assert (row.state, row.attempt) == ("failed", 1)
    assert row.error["code"] == "INVALID_DATA"
    assert "left" in row.error["message"]
    assert row.error["retryable"] is False


def test_a_flaky_task_is_retried_until_it_succeeds(worker: Process) -> None:
    row = wait_state(submit("demo.flaky", {"failures": 2}))
    assert (row.state, row.attempt, row.result) == ("success", 3, {"attempts": 3})
    outcomes = Attempt.objects.filter(task_id=row.id).order_by("attempt")
    assert [one.outcome for one in outcomes] == ["failed", "failed", "success"]
    assert "SERVICE_UNAVAILABLE" not in outcomes[2].traceback
    assert "TaskError" in outcomes[0].traceback


def test_the_retry_policy_of_the_submission_wins_over_the_types(worker: Process) -> None:
    row = wait_state(submit("demo.flaky", {"failures": 1}, retry_policy={"policy": "never"}))
    assert (row.state, row.attempt) == ("failed", 1)


def test_a_permanent_error_is_not_retried(worker: Process) -> None:
    row = wait_state(submit("demo.fail", {"code": "OUT_OF_STOCK", "message": "none\x21 left"}))
    assert (row.state, row.attempt, row.error["code"]) == ("failed", 1, "OUT_OF_STOCK")


def test_a_handler_may_ask_to_be_retried_later(worker: Process) -> None:
    row = wait_state(submit("test.later"))
    assert (row.state, row.attempt, row.result) == ("success", 2, "now")


def test_async_handlers_run_on_one_loop(worker: Process) -> None:
    first = wait_state(submit("test.async", {"seconds": 0.01}))
    assert (first.state, first.result["is_task"]) == ("success", True)


def test_an_async_handler_is_stopped_at_its_process_timeout(worker: Process) -> None:
    row = wait_state(submit("test.async", {"seconds": 60.0}, process_timeout=1, max_retry=0))
    assert (row.state, row.error["code"]) == ("timeout", "TIMEOUT")


def test_progress_is_visible_while_it_runs_and_coalesced(worker: Process, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    task_id = submit("test.progress", {"reports": 5000, "hold_at": 2500, "path": str(hold)})
    wait_for(hold.exists)
    wait_for(lambda: task(task_id).progress_message == "at 2500", seconds=2)
    assert task(task_id).progress_detail == {"current": 2500}
    hold.unlink()
    row = wait_state(task_id)
    reports = [data for name, data in events_of(task_id) if name == "task.progress"]
    assert len(reports) < 15
    assert reports[-1]["message"] == "last words"
    assert row.state == "success"


def test_log_lines_are_kept_with_those_of_the_standard_library(worker: Process) -> None:
    row = wait_state(submit("test.logs", {"lines": 3}))
    lines = lines_of(row.id)
    assert [line["fields"].get("number") for line in lines[:3]] == [0, 1, 2]
    assert lines[3]["level"] == "warning"
    assert "careful" in lines[3]["message"]
    assert lines[4]["message"] == "heard this"
    assert lines[4]["fields"]["logger"] == "someones.library"
    assert len(lines) == 5


def test_the_oldest_log_lines_are_dropped_beyond_the_cap(worker: Process) -> None:
    row = wait_state(submit("test.logs", {"lines": 300, "filler": 1000}))
    lines = lines_of(row.id)
    chunks = LogChunk.objects.filter(task_id=row.id)
    assert sum(chunk.size_bytes for chunk in chunks) <= 20_000
    assert any("bytes of older log lines were dropped" in line["message"] for line in lines)
    numbers = [line["fields"]["number"] for line in lines if "number" in line["fields"]]
    assert numbers[-1] == 299
    assert lines[-1]["message"] == "heard this"


def test_once_runs_its_effect_once_over_two_attempts(worker: Process, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    row = wait_state(submit("test.once", {"path": str(effects)}))
    assert row.result == {"value": {"attempt": 1}, "attempt": 2}
    assert effects.read_text() == "effect\n"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"kind": "big", "bytes": 1_048_576}, "RESULT_TOO_LARGE"),
        ({"kind": "nan"}, "RESULT_NOT_STORABLE"),
        ({"kind": "nul"}, "RESULT_NOT_STORABLE"),
        ({"kind": "object"}, "RESULT_NOT_STORABLE"),
    ],
)
def test_a_result_that_cannot_be_stored_ends_as_error(
    worker: Process, payload: dict[str, Any], code: str
) -> None:
    row = wait_state(submit("test.result", payload))
    assert (row.state, row.attempt, row.error["code"]) == ("error", 1, code)


def test_a_result_of_the_largest_size_is_stored(worker: Process) -> None:
    row = wait_state(submit("test.result", {"kind": "big", "bytes": 1_048_574}))
    assert (row.state, len(row.result)) == ("success", 1_048_574)
    assert wait_state(submit("test.result", {"kind": "escaped"})).result == "a\\u0000b"


def test_a_stale_hint_claims_nothing(worker: Process) -> None:
    task_id = submit("demo.echo", "once")
    row = wait_state(task_id)
    publish_hints([(task_id, 0, "demo.echo", "default"), (task_id, 1, "demo.echo", "default")])
    wait_state(submit("demo.echo", "after"))
    wait_state(submit("demo.echo", "after"))
    assert task(task_id).version == row.version


def test_an_unknown_type_is_handed_back_and_waits(worker: Process) -> None:
    task_id = submit("nobody.knows")
    wait_for(lambda: task(task_id).state == "queued")
    row = task(task_id)
    assert (row.hand_backs, row.attempt) == (1, 0)
    assert 1.0 <= (row.run_at - row.updated_at).total_seconds() <= 3.0
    name, data = events_of(task_id)[-1]
    assert (name, data["code"]) == ("task.queued", "NO_CAPABLE_WORKER")


def test_a_write_with_an_old_epoch_is_refused_and_recorded(worker: Process, tmp_path: Path) -> None:
    from django.db import connection

    hold = tmp_path / "hold"
    task_id = submit("test.progress", {"reports": 2, "hold_at": 0, "path": str(hold)})
    wait_for(hold.exists)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_task SET epoch = epoch + 1 WHERE id = %s", [task_id])
    hold.unlink()
    stale = wait_for(lambda: StaleResult.objects.filter(task_id=task_id).first())
    assert (stale.epoch, stale.verb) == (1, "succeed")
    assert task(task_id).state == "running"
    assert feed() == 0
