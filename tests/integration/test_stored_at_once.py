"""Checkpoints, children and longer timeouts of handlers in real workers, through failures, deaths
and the engine's own deadline.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.context import AttemptInfo, Child, TaskContext
from tasks_app.errors import LeaseLost
from tasks_app.models import Task
from tasks_app.services.spawning import spawn_child
from tasks_app.testing import RecordingSink
from tests.attempts import claim_one, interrupt_one
from tests.factories import make_task, make_tenant, task_column
from tests.feeding import feed, submit, task, wait_state
from tests.processes import Process, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    modules = "tests.handlers,tests.context_handlers"
    with (
        django_db_blocker.unblock(),
        running_worker(TASKMILL_HANDLER_MODULES=modules) as process,
    ):
        yield process


@pytest.mark.parametrize("dies", [False, True])
def test_the_next_attempt_goes_on_where_the_last_one_stopped(
    worker: Process, tmp_path: Path, dies: bool
) -> None:
    ledger = tmp_path / "ledger"
    payload = {"rows": 5, "stops_at": 2, "ledger": str(ledger), "dies": dies}
    row = wait_state(submit("test.rows", payload))
    assert (row.state, row.result) == ("success", {"begun": 3}), row.error
    assert ledger.read_text("utf-8").split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("dies", [False, True])
def test_a_further_attempt_is_handed_the_children_of_the_first(worker: Process, dies: bool) -> None:
    parent = submit("test.family", {"dies": dies})
    row = wait_state(parent)
    assert row.state == "success", row.error
    children = Task.objects.filter(parent=parent)
    assert sorted(str(one.id) for one in children) == sorted(row.result)
    assert sorted(one.payload["n"] for one in children) == [0, 1, 2]
    assert {(one.depth, one.root, tuple(one.tags)) for one in children} in (
        {(1, parent, ("child",)), (1, parent, ())},
    )


def test_an_attempt_that_lost_its_task_spawns_nothing() -> None:
    task_id = make_task(make_tenant("default"), state="dispatched")
    with connection.cursor() as cursor:
        claim = claim_one(cursor, (task_id, task_column(task_id, "dispatch_seq")))
        assert claim is not None
        interrupt_one(cursor, task_id, epoch=claim.epoch)
    info = AttemptInfo(
        task_id=task_id, type="tests.echo", queue="default", tenant="default", epoch=claim.epoch
    )
    context = TaskContext(info, RecordingSink())
    with pytest.raises(LeaseLost):
        spawn_child(Child("demo.echo", {}, "taskmill:spawn:a", {}), context)
    assert not Task.objects.filter(parent=task_id).exists()


def expire(grace: float = 0.0) -> int:
    with connection.cursor() as cursor:
        return transitions.expire_running(cursor, grace_seconds=grace)


def test_a_longer_timeout_holds_for_the_worker_and_the_engine(
    worker: Process, tmp_path: Path
) -> None:
    path = tmp_path / "extended"
    payload = {"more": 60, "seconds": 5, "path": str(path)}
    task_id = submit("test.patient", payload, process_timeout=2, max_retry=0)
    wait_for(path.exists, reason="the handler extends its timeout")
    assert task(task_id).run_deadline is not None
    assert wait_and_expire(task_id).state == "success"


def wait_and_expire(task_id: uuid.UUID) -> Task:
    """Wait for its end, while the engine looks for what is late."""

    def look() -> Task | None:
        feed()
        expire()
        row = task(task_id)
        return row if row.finished_at else None

    found = wait_for(look)
    assert found is not None
    return found


def test_a_longer_timeout_ends_too(worker: Process, tmp_path: Path) -> None:
    payload = {"more": 2, "seconds": 60, "path": str(tmp_path / "extended")}
    row = wait_state(submit("test.patient", payload, process_timeout=2, max_retry=0))
    assert (row.state, row.error["type"]) == ("timeout", "tasks_app.errors.ProcessTimeout")


def test_an_async_handler_may_extend_and_spawn(worker: Process) -> None:
    payload = {"more": 60, "seconds": 3}
    parent = submit("test.patient_async", payload, process_timeout=1, max_retry=0)
    row = wait_state(parent)
    assert row.state == "success", row.error
    assert set(row.result) == {str(one.id) for one in Task.objects.filter(parent=parent)}
    assert len(set(row.result)) == 1
