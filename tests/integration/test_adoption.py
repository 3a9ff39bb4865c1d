"""Celery tasks that were written for Celery alone, tracked: called here, run by a real worker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group, shared_task
from celery.result import AsyncResult
from django.db import transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from config import celery_app
from scheduler.beat import Scheduler
from tasks_app.adoption import adopt_modules, from_celery
from tasks_app.errors import NotAdoptable, PayloadTooLarge, ValidationFailed
from tasks_app.execution.results import TaskFailed
from tasks_app.models import Task
from tasks_app.models.history import Attempt
from tasks_app.public import retry
from tasks_app.public import submit as submit_plainly
from tasks_app.registry import get_handler
from tests.adopted import tasks
from tests.factories import make_tenant
from tests.feeding import feed, wait_state
from tests.ordinary.tasks import add as ordinary_add
from tests.processes import Process, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
MODULE = "tests.adopted.tasks"


@pytest.fixture(scope="module", autouse=True)
def adopted() -> None:
    adopt_modules([MODULE])


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with (
        django_db_blocker.unblock(),
        running_worker(
            TASKMILL_APPS="tests.adopted,tests.ordinary", TASKMILL_ADOPT=MODULE
        ) as process,
    ):
        yield process


@pytest.fixture(autouse=True)
def tenant() -> None:
    make_tenant("default")


def row(result: AsyncResult[Any]) -> Task:
    return Task.objects.get(id=result.id)


def ended(result: AsyncResult[Any]) -> Task:
    return wait_state(uuid.UUID(str(result.id)))


def test_delay_submits_a_task_and_async_result_finds_its_end(worker: Process) -> None:
    result = tasks.add.delay(1, right=2)
    assert row(result).type == "celery.tests.adopted.tasks.add"
    assert result.state == "PENDING"
    assert ended(result).state == "success"
    assert (result.get(timeout=5), result.state) == (3, "SUCCESS")
    assert AsyncResult(result.id, app=celery_app).result == 3


def test_a_bound_task_retries_by_itself_and_knows_its_request(worker: Process) -> None:
    result = tasks.flaky.apply_async([2], headers={"trace": "t1"})
    assert ended(result).attempt == 3
    assert result.get(timeout=5) == {
        "id": result.id,
        "retries": 2,
        "args": [2],
        "current": result.id,
        "queue": "default",
        "headers": {"trace": "t1"},
        "direct": False,
    }
    [first, *_] = Attempt.objects.filter(task_id=result.id).order_by("attempt")
    assert (first.outcome, first.error["message"]) == ("failed", "failure 0")
    assert "ValueError: failure 0" in first.traceback


def test_retries_end_where_celery_s_end_with_the_error_itself(worker: Process) -> None:
    result = tasks.flaky.delay(9)
    found = ended(result)
    assert (found.state, found.attempt, found.error["type"]) == ("failed", 3, "ValueError")
    with pytest.raises(TaskFailed, match="failure 2"):
        result.get(timeout=5)


def test_a_retry_waits_as_long_as_it_was_asked_to(worker: Process) -> None:
    result = tasks.flaky.delay(1, hurry=600)
    feed()
    assert wait_for(lambda: row(result).state == "retrying")
    found = row(result)
    assert timedelta(seconds=590) < found.run_at - found.updated_at <= timedelta(seconds=601)
    assert result.state == "RETRY"


def test_autoretry_repeats_what_it_names_and_nothing_else_is_repeated(worker: Process) -> None:
    assert ended(tasks.connect.delay(1)).result == 1
    gone = ended(tasks.connect.delay(9))
    assert (gone.state, gone.attempt, gone.error["type"]) == ("failed", 5, "ConnectionError")
    broken = ended(tasks.broken.delay())
    assert (broken.state, broken.attempt, broken.error["type"]) == ("failed", 1, "LookupError")


def test_update_state_is_progress_here_and_state_and_info_there(
    worker: Process, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    result = tasks.render.delay(4, str(hold))
    feed()
    wait_for(hold.exists)
    wait_for(lambda: result.state == "PROGRESS")
    assert result.info == {"current": 1, "total": 4, "file": "a.pdf"}
    assert row(result).progress == 25
    hold.unlink()
    wait_for(lambda: result.state == "UPLOADING")
    assert (result.info, row(result).progress) == ({"to": "store"}, 25)
    wait_for(hold.exists)
    hold.unlink()
    assert ended(result).result == "done"


def test_a_retry_that_is_not_thrown_is_a_retry_all_the_same(worker: Process) -> None:
    assert ended(tasks.swallow.delay()).result == "run 1"


def test_hooks_and_an_apply_async_of_the_project_s_own_still_run(
    worker: Process, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    result = tasks.told.delay(str(good), True)
    assert ended(result).result == "acme"
    assert good.read_text() == f"success acme {result.id}"
    result = tasks.told.delay(str(bad), False)
    assert ended(result).state == "failed"
    assert bad.read_text() == f"failure OSError {result.id} acme"


def test_a_soft_time_limit_is_seen_as_celery_s_and_ends_in_timeout(
    worker: Process, tmp_path: Path
) -> None:
    path = tmp_path / "tidied"
    result = tasks.limited.delay(str(path))
    assert row(result).process_timeout == 1
    assert ended(result).state == "timeout"
    assert path.read_text() == "tidied"


def test_ignored_results_need_not_be_json_and_ends_by_exception_are_kept(worker: Process) -> None:
    result = tasks.quiet.delay()
    assert (result.ignored, result.get()) == (True, None)
    assert (ended(result).state, row(result).result) == ("success", None)
    assert ended(tasks.leave.delay("ignore")).error["code"] == "IGNORED"
    assert ended(tasks.leave.delay("reject")).error["code"] == "REJECTED"


def test_what_an_adopted_task_cannot_do_fails_it_with_what_to_do(worker: Process) -> None:
    found = ended(tasks.other_arguments.delay(1))
    assert (found.state, found.attempt) == ("failed", 1)
    assert "retried with its own arguments" in found.error["message"]
    assert "ends by returning or raising" in ended(tasks.fake_end.delay()).error["message"]


def test_a_task_called_by_a_task_is_its_child(worker: Process) -> None:
    result = tasks.parent.delay()
    child = Task.objects.get(id=ended(result).result)
    assert (str(child.parent), child.type) == (result.id, "celery.tests.adopted.tasks.add")


def test_messages_of_the_time_before_run_as_ever(worker: Process) -> None:
    old = celery_app.send_task(tasks.add.name, [2, 3])
    assert old.get(timeout=20) == 5
    assert not Task.objects.exists()


def test_a_task_by_hand_over_the_platform_is_the_same_task(worker: Process) -> None:
    handle = submit_plainly("celery.tests.adopted.tasks.flaky", {"args": [1]}, max_retry=0)
    assert wait_state(handle.id).state == "failed"
    with pytest.raises(ValidationFailed, match="too many positional arguments"):
        submit_plainly("celery.tests.adopted.tasks.add", {"args": [1, 2, 3]})


def test_a_task_retried_by_hand_has_all_its_retries_again(worker: Process) -> None:
    result = tasks.flaky.delay(9)
    assert ended(result).attempt == 3
    retry(uuid.UUID(result.id))
    found = ended(result)
    assert (found.attempt, found.error["message"]) == (6, "failure 2")


def test_an_entry_of_beat_s_tables_is_tracked_too() -> None:
    every = IntervalSchedule.objects.create(every=10, period="seconds")
    entry = PeriodicTask.objects.create(
        name="nightly", task=tasks.add.name, args="[1]", kwargs='{"right": 4}', interval=every
    )
    result = Scheduler(app=celery_app, lazy=True).publish(entry)
    assert row(result).payload == {"args": [1], "kwargs": {"right": 4}}


def test_a_rolled_back_transaction_submits_nothing() -> None:
    with transaction.atomic():
        result = tasks.add.delay(1)
        assert row(result).state == "queued"
        transaction.set_rollback(True)
    assert not Task.objects.filter(id=result.id).exists()


def test_options_of_a_call_come_to_the_row() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    found = row(
        tasks.add.apply_async(
            (1,), queue="mail", priority=9, eta=at, expires=at + timedelta(seconds=30)
        )
    )
    assert (found.queue, found.priority, found.run_at) == ("mail", 9, at)
    assert found.queue_timeout in {30, 31}
    later = row(tasks.add.apply_async((1,), countdown=60, expires=90, retry=True))
    assert (later.state, later.queue_timeout) == ("scheduled", 30)
    assert row(tasks.add.apply_async((1,), time_limit=7)).process_timeout == 7
    assert row(tasks.add.s(1).apply_async(countdown=5)).state == "scheduled"
    assert row(tasks.add.s(1).delay(2)).payload == {"args": [2, 1], "kwargs": {}}


def test_options_of_the_declaration_are_those_of_the_type() -> None:
    options = get_handler("celery.tests.adopted.tasks.bounded").options
    assert str(options.rate) == "10/min"
    found = row(tasks.bounded.delay())
    assert (found.max_retry, found.queue_timeout) == (3, 90)
    assert get_handler("celery.tests.adopted.tasks.flaky").options.max_retry == 2


@pytest.mark.parametrize(
    "value", [datetime.now(UTC), b"x", {1}, object(), {1: 2}, [[uuid.uuid4()]]]
)
def test_arguments_that_json_cannot_carry_are_refused_at_the_call(value: Any) -> None:
    with pytest.raises(TypeError):
        tasks.add.delay(value)
    with pytest.raises(TypeError):
        tasks.add.delay(1, 2, 3)
    with pytest.raises(PayloadTooLarge):
        tasks.add.delay("x" * 20_000_000)
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda: chain(tasks.add.s(1), tasks.add.s(2)).apply_async(countdown=1),
        lambda: chain(ordinary_add.s(1, 1), tasks.add.s(2)).apply_async(countdown=1),
        lambda: tasks.add.s(1) | tasks.add.s(2),
        lambda: (ordinary_add.s(1, 2) | tasks.add.s(2)).apply_async(countdown=1),
        lambda: group(tasks.add.s(1), tasks.add.s(2)).apply_async(countdown=1),
        lambda: group(ordinary_add.s(1, 1), tasks.add.si(2)).apply_async(),
        lambda: chord([ordinary_add.s(1, 1)])(tasks.add.s()),
        lambda: chord([tasks.add.s(1), tasks.add.s(2)])(ordinary_add.s(1)),
        lambda: tasks.add.apply_async((1,), link=ordinary_add.s(1)),
        lambda: tasks.add.apply_async((1,), link_error=ordinary_add.s(1)),
        lambda: tasks.add.s(1).link(ordinary_add.s(1)),
        lambda: tasks.add.s(1).on_error(ordinary_add.s(1)),
        lambda: tasks.add.chunks([(1, 2)], 1),
        lambda: tasks.add.map([1]),
        lambda: tasks.add.starmap([(1, 1)]),
        lambda: tasks.add.apply_async((1,), task_id="mine"),
        lambda: tasks.add.apply_async((1,), serializer="pickle"),
        lambda: tasks.add.apply_async((1,), routing_key="x"),
        lambda: tasks.add.apply_async((1,), nonsense=1),
    ],
)
def test_what_a_row_cannot_carry_is_refused_at_the_call(call: Any) -> None:
    with pytest.raises(NotAdoptable, match="tracked task"):
        call()
    assert not Task.objects.exists()


def test_what_expires_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="before it may start"):
        tasks.add.apply_async((1,), countdown=60, expires=30)


def test_eager_calls_of_a_project_s_own_tests_stay_eager() -> None:
    assert tasks.add.apply((1, 2)).get() == 3
    assert tasks.flaky.apply((1,)).get()["retries"] == 1
    assert tasks.add(1, 2) == 3
    celery_app.conf.task_always_eager = True
    try:
        assert tasks.add.delay(1, 2).get() == 3
    finally:
        celery_app.conf.task_always_eager = False
    assert not Task.objects.exists()


def test_a_task_is_adopted_under_a_name_and_with_options_of_ones_own() -> None:
    @shared_task(name="adoption.one", rate_limit="0.5/s")
    def one(value: int) -> int:
        """Say one."""
        return value

    with pytest.raises(NotAdoptable, match="rate="):
        from_celery(one)
    declared = from_celery(one, name="numbers.one", queue="numbers", max_retry=5, rate="30/min")
    assert (declared.options.queue, declared.options.max_retry) == ("numbers", 5)
    assert (declared.type, declared.description) == ("numbers.one", "Say one.")
    assert (row(one.delay(1)).type, row(one.delay(1)).queue) == ("numbers.one", "numbers")
    assert declared.test_run({"args": [4]}).value == 4


def test_what_cannot_be_adopted_says_why() -> None:
    @shared_task(name="adoption.two", serializer="pickle")
    def two() -> None: ...

    @shared_task(name="adoption.three")
    def three() -> None: ...

    for wrong, word in ((two, "pickle"), (len, "no Celery task"), (tasks.add, "already")):
        with pytest.raises(NotAdoptable, match=word):
            from_celery(wrong)
    with pytest.raises(NotAdoptable, match="name of a Celery task"):
        from_celery(three, name="adoption.three")
    with pytest.raises(NotAdoptable, match="declares no Celery tasks"):
        adopt_modules(["tests.feeding"])
