"""A bundle in a real worker: each task keeps what is its own, whatever becomes of the others."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.models import Attempt, Task
from tests.members import Members
from tests.processes import running_worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bundle(valkey: Any, tmp_path: Path) -> Members:
    return Members(tmp_path)


def test_they_run_in_their_order_and_attempts_tell_the_time_of_the_handler_alone(
    bundle: Members,
) -> None:
    bundle.send("end", "hold", "end", process_timeout=60)
    with running_worker(queues=bundle.queue):
        bundle.wait_for("b begin")
        bundle.gate.touch()
        bundle.wait_until(a="success", b="success", c="success")
    assert [line for line in bundle.noted() if line.endswith("begin")] == [
        "a begin",
        "b begin",
        "c begin",
    ]
    first, held, last = (Attempt.objects.get(task_id=one) for one in bundle.ids.values())
    assert first.finished_at <= held.started_at <= held.finished_at <= last.started_at
    assert [Task.objects.get(id=one.task_id).started_at for one in (held, last)] == [
        held.started_at,
        last.started_at,
    ]
    assert bundle.is_legal()


def test_one_that_fails_is_retried_alone(bundle: Members) -> None:
    bundle.send("end", "fail", "end")
    with running_worker(queues=bundle.queue):
        bundle.wait_until(a="success", b="retrying", c="success")
    assert bundle.outcomes("b") == [(1, "failed")]
    assert bundle.outcomes("c") == [(1, "success")]
    assert bundle.is_legal()


def test_what_waits_behind_a_long_one_is_handed_back_and_what_ended_is_written(
    bundle: Members,
) -> None:
    bundle.send("end", "hold", "end", "end", max_retry=0)
    with running_worker(queues=bundle.queue, concurrency=1, TASKMILL_LEASE_SECONDS="600"):
        bundle.wait_until(a="success", b="running", c="queued", d="queued")
        assert bundle.reasons("c") == ["held_up"]
        bundle.gate.touch()
        bundle.wait_until(b="success")
        assert bundle.states()["c"] == "queued"
        bundle.dispatch()
        bundle.wait_until(c="success", d="success")
    assert bundle.outcomes("c") == [(1, "interrupted"), (1, "success")]
    assert bundle.noted().count("c begin") == 1
    assert bundle.is_legal()


def test_a_child_that_dies_loses_the_attempt_it_made_and_no_other(bundle: Members) -> None:
    bundle.send("end", "hold", "exit", "end", max_retry=0)
    with running_worker(queues=bundle.queue, concurrency=1):
        bundle.wait_until(a="success")
        bundle.gate.touch()
        bundle.wait_until(c="error", d="queued")
        assert bundle.outcomes("c") == [(1, "lost")]
        assert bundle.outcomes("d") == [(1, "interrupted")]
        assert bundle.reasons("d") == ["worker_lost"]
        assert bundle.outcomes("b") in ([(1, "interrupted")], [(1, "success")])
        bundle.dispatch()
        bundle.wait_until(a="success", b="success", d="success")
    assert bundle.noted().count("a begin") == 1
    assert bundle.is_legal()


def test_a_cancel_finds_one_that_has_not_begun(bundle: Members) -> None:
    bundle.send("hold", "hang", max_retry=0)
    with running_worker(queues=bundle.queue, concurrency=1, TASKMILL_LEASE_SECONDS="600"):
        bundle.wait_for("a begin")
        _cancel(bundle.ids["b"])
        bundle.gate.touch()
        bundle.wait_until(a="success", b="cancelled")
    assert bundle.is_legal()


def test_its_timeout_counts_from_its_own_begin(bundle: Members) -> None:
    bundle.send("end", "hold", max_retry=0, process_timeout=1)
    with running_worker(queues=bundle.queue, concurrency=1):
        bundle.wait_until(a="success", b="timeout")
    assert "b ProcessTimeout" in bundle.noted()
    [attempt] = Attempt.objects.filter(task_id=bundle.ids["b"])
    assert (attempt.finished_at - attempt.started_at).total_seconds() >= 1.0
    assert bundle.is_legal()


def test_a_worker_that_stops_ends_the_one_that_runs_and_hands_the_others_back(
    bundle: Members,
) -> None:
    bundle.send("hold", "end", "end", max_retry=0)
    with running_worker(
        queues=bundle.queue, concurrency=1, TASKMILL_SHUTDOWN_GRACE_SECONDS="20"
    ) as worker:
        bundle.wait_for("a begin")
        worker.popen.terminate()
        bundle.gate.touch()
        worker.popen.wait(30)
    assert bundle.states() == {"a": "success", "b": "queued", "c": "queued"} or (
        bundle.states() == dict.fromkeys("abc", "success")
    )
    assert bundle.is_legal()


def _cancel(task_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        transitions.request_cancel(
            cursor,
            tenant_id=Task.objects.get(id=task_id).tenant_id,
            task_id=task_id,
            actor="tests",
            reason="",
            grace_seconds=None,
        )
