"""Submitting from Python, task handles, and the services that no endpoint reaches yet."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, connections, transaction

from tasks_app import public
from tasks_app.context import AttemptInfo, TaskContext, running_in
from tasks_app.errors import (
    DuplicateTask,
    NotFinished,
    NotFound,
    PayloadTooLarge,
    TaskNotFound,
    ValidationFailed,
)
from tasks_app.models import Event, Task, Tenant
from tasks_app.selectors.dead_letters import DeadLetterFilter
from tasks_app.services.caller import Caller
from tasks_app.services.operate import merge_patch
from tasks_app.services.redrive import purge_dead_letters, retry_dead_letters
from tasks_app.states import State, Status
from tests.factories import drive, make_task, make_tenant, task_column, task_state
from tests.task_handlers import Item, Order, echo, nothing, order


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("default")


def caller(tenant: Tenant) -> Caller:
    return Caller(tenant_id=tenant.id, actor="tests")


NAMES = """CancelAnswer DuplicateTask ErrorInfo EventType Handler LeaseLost NotAdoptable NotFinished
PayloadTooLarge Permanent ProcessTimeout QuotaExceeded RequestError Retry RetryLater State
StateConflict Status TaskCancelled TaskContext TaskHandle TaskNotFound TaskTooDeep TaskmillError
TooManyChildren TooManyQueues UnknownTaskType ValidationFailed caller_for cancel current_task
from_celery get_task handler retry submit"""


def test_the_public_names_are_these_and_no_others() -> None:
    assert public.__all__ == NAMES.split() == sorted(public.__all__)
    assert all(hasattr(public, name) for name in public.__all__)


@pytest.mark.django_db
def test_a_submission_from_python_costs_one_statement(
    tenant: Tenant, django_assert_num_queries: Any
) -> None:
    echo.submit({"n": 0})
    with django_assert_num_queries(1):
        handle = echo.submit({"n": 1}, tags=["a"], delay=5, priority=3)
    row = Task.objects.get(id=handle.id)
    assert (row.payload, row.tags, row.priority) == ({"n": 1}, ["a"], 3)
    assert (row.tenant_id, row.submitted_by, row.state) == (tenant.id, "python", "scheduled")


@pytest.mark.django_db
def test_a_submission_joins_the_callers_transaction(tenant: Tenant) -> None:
    with transaction.atomic():
        handle = echo.submit({})
        assert handle.state is State.QUEUED
        transaction.set_rollback(True)
    with pytest.raises(TaskNotFound):
        handle.refresh()


@pytest.mark.django_db
def test_models_and_policies_are_taken_as_they_are(tenant: Tenant) -> None:
    handle = order.submit(
        Order(order_id=1, items=[Item(sku="a", count=2)]),
        retry=public.Retry.exponential(2, factor=3),
        run_at=datetime(2030, 1, 1, tzinfo=UTC),
        tags=("x",),
    )
    row = Task.objects.get(id=handle.id)
    assert row.payload == {"order_id": 1, "items": [{"sku": "a", "count": 2}]}
    assert row.retry_policy is not None
    assert row.retry_policy["factor"] == 3
    assert row.run_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert Task.objects.get(id=nothing.submit().id).payload == {}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("payload", "options", "error"),
    [
        ({"a": float("nan")}, {}, ValidationFailed),
        ({"a": [float("inf")]}, {}, ValidationFailed),
        ({"a": "\x00"}, {}, ValidationFailed),
        ({"a": "\\u0000"}, {}, None),
        ({"a": "\ud800"}, {}, ValidationFailed),
        ({"a": object()}, {}, ValidationFailed),
        ({"a": 1 << 70}, {}, ValidationFailed),
        ({"a": "x" * 1_048_577}, {}, PayloadTooLarge),
        ({}, {"colour": "red"}, ValidationFailed),
        ({}, {"run_at": datetime(2030, 1, 1)}, ValidationFailed),  # noqa: DTZ001 - naive on purpose
        ({}, {"tenant": "nobody"}, NotFound),
    ],
)
def test_what_cannot_be_stored_is_refused(
    tenant: Tenant, payload: Any, options: dict[str, Any], error: type[Exception] | None
) -> None:
    if error is None:
        assert echo.submit(payload, **options).as_object()["payload"] == payload
        return
    with pytest.raises(error):
        echo.submit(payload, **options)
    assert not Task.objects.exists()


@pytest.mark.django_db
def test_a_unique_submission_finds_the_live_task(tenant: Tenant) -> None:
    first = echo.submit({}, unique={"key": "k"})
    again = echo.submit({}, unique={"key": "k"})
    assert (again.id, again.is_existing, first.is_existing) == (first.id, True, False)
    with pytest.raises(DuplicateTask):
        echo.submit({}, unique={"key": "k", "on_conflict": "reject"})


@pytest.mark.django_db
def test_a_task_submitted_by_a_task_is_its_child_in_its_tenant() -> None:
    other = make_tenant("other")
    make_tenant("default")
    parent = uuid.uuid4()
    info = AttemptInfo(task_id=parent, type="tests.echo", queue="default", tenant="other")
    with running_in(TaskContext(info, sink=None)):  # type: ignore[arg-type]  # nothing is reported
        child = echo.submit({})
        stranger = echo.submit({}, tenant="default")
    assert (task_column(child.id, "parent"), task_column(child.id, "tenant_id")) == (
        parent,
        other.id,
    )
    assert task_column(stranger.id, "parent") is None


@pytest.mark.django_db
def test_a_handle_tells_what_became_of_its_task(tenant: Tenant) -> None:
    handle = echo.submit({})
    assert (handle.status, handle.is_done) == (Status.PENDING, False)
    with pytest.raises(NotFinished):
        _ = handle.result
    drive(handle.id, "success")
    assert handle.status is Status.PENDING
    assert (handle.refresh().status, handle.result) == (Status.SUCCESS, {"ok": True})
    with pytest.raises(RuntimeError, match="atomic"):
        handle.wait(1)
    failed = public.get_task(make_task(tenant, state="failed"))
    assert failed.error is not None
    assert failed.error["code"] == "HANDLER_ERROR"
    assert public.retry(failed.id).state is State.QUEUED
    assert public.cancel(failed.id).was_pending


@pytest.mark.django_db(transaction=True)
def test_a_handle_waits_for_the_end(tenant: Tenant) -> None:
    handle = echo.submit({})
    with pytest.raises(TimeoutError):
        handle.wait(0)

    def finish() -> None:
        drive(handle.id, "success")
        connections.close_all()

    worker = threading.Thread(target=finish)
    worker.start()
    assert handle.wait(timeout=30).result == {"ok": True}
    worker.join()


@pytest.mark.django_db
def test_dead_letters_are_retried_but_those_whose_key_lives(tenant: Tenant) -> None:
    plain = [make_task(tenant, state=state) for state in ("failed", "error", "timeout")]
    keyed = make_task(tenant, state="failed", unique_key="u")
    make_task(tenant, unique_key="u")
    success = make_task(tenant, state="success")
    foreign = make_task(make_tenant("other"), state="failed")
    every = [*plain, keyed, success, foreign]
    assert retry_dead_letters(caller=caller(tenant), ids=every) == 3
    assert [task_state(one) for one in plain] == ["queued"] * 3
    assert [task_state(one) for one in (keyed, success, foreign)] == ["failed", "success", "failed"]


@pytest.mark.django_db
def test_dead_letters_are_purged_with_their_history(tenant: Tenant) -> None:
    chosen = make_task(tenant, state="failed", type="tests.order")
    others = [
        make_task(tenant, state="failed"),
        make_task(tenant, state="success", type="tests.order"),
        make_task(make_tenant("other"), state="failed", type="tests.order"),
    ]
    wanted = DeadLetterFilter(type="tests.order", code="HANDLER_ERROR")
    assert purge_dead_letters(caller=caller(tenant), wanted=wanted) == 1
    assert set(Task.objects.values_list("id", flat=True)) == set(others)
    for table in ("event", "attempt", "log", "once"):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM taskmill_{table} WHERE task_id = %s", [chosen])
            assert cursor.fetchone()[0] == 0
    assert Event.objects.filter(task_id=others[0]).exists()


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_follow_the_examples_of_the_rfc(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged
