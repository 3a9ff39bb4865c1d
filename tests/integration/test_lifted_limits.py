"""Limits that are lifted are seen by the next look, though 10,000 other rules have tasks parked: a
tour of these takes 34 looks.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app import registry, transitions
from tasks_app.db import connect
from tasks_app.models import Limit, Queue, Task, Tenant
from tasks_app.registry import handler
from tasks_app.services.caller import Caller
from tasks_app.services.limits import change_key_limit
from tasks_app.transitions import unblocking
from tests.engines import Dispatcher, dispatcher
from tests.factories import make_key, make_task, make_tenant, task_column, task_state
from tests.integration.api_client import Api
from tests.parking import park_many, served_queue
from tests.query_plans import check_plan

pytestmark = pytest.mark.django_db(transaction=True)
KEY: dict[str, Any] = {"concurrency_key": "one", "max_concurrency": 1000}
FULL_KEYS = 10_000


@pytest.fixture(autouse=True)
def types(own_types: None) -> None:
    @handler("lifted.free")
    def free() -> None: ...

    @handler("lifted.one", concurrency=1)
    def one() -> None: ...


@pytest.fixture
def bench(valkey: Any) -> Iterator[Dispatcher]:
    with dispatcher(window_most=1000) as one:
        yield one


@pytest.fixture
def queue() -> str:
    return served_queue(slots=900)


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def look(bench: Dispatcher) -> None:
    """Run rounds up to the end of the next one that looks for parked tasks."""
    looks = bench.work._unblocking
    before = looks._looked_at
    bench.is_rung = True
    while looks._looked_at == before:
        bench.round()


def parked(bench: Dispatcher, queue: str, tasks: list[uuid.UUID]) -> uuid.UUID:
    """Have the last task refused, among many others, and the tour just be past its rule."""
    park_many(make_tenant(), keys=FULL_KEYS)
    bench.round()
    for _ in range(3):
        look(bench)
    refused = tasks[-1]
    assert task_state(refused) == "blocked"
    bench.work._unblocking._place = (task_column(refused, "blocked_by"), queue)
    return refused


OF_KEY, OF_TYPE = "/concurrency-keys/one", "/task-types/lifted.free"
LIFTED = (
    (OF_KEY, {"concurrency": 1}, "concurrency"),
    (OF_KEY, {"rate": "1/h"}, "rate"),
    (OF_KEY, {"concurrency": 1, "rate": "50/h"}, "concurrency"),
    (OF_KEY, {"concurrency": 50, "rate": "1/h"}, "rate"),
    (OF_TYPE, {"concurrency": 1}, "concurrency"),
    (OF_TYPE, {"rate": "1/h"}, "rate"),
)


@pytest.mark.parametrize(("path", "limit", "lifted"), LIFTED)
def test_a_lifted_limit_is_seen_by_the_next_look(
    bench: Dispatcher, queue: str, api: Api, path: str, limit: dict[str, Any], lifted: str
) -> None:
    assert api.patch(path, limit).status_code == 200
    body = {"type": "lifted.free", "queue": queue, **KEY}
    tasks = [uuid.UUID(api.post("/tasks", body).json()["id"]) for _ in range(2)]
    refused = parked(bench, queue, tasks)
    assert api.patch(path, {lifted: None}).status_code == 200
    look(bench)
    assert task_state(refused) == "dispatched"


def test_a_limit_lifted_in_the_admin_is_seen_by_the_next_look(
    bench: Dispatcher, queue: str, tenant: Tenant, admin_client: Client
) -> None:
    limit = Limit.objects.create(of="key", tenant=tenant, name="one", concurrency=1)
    refused = parked(bench, queue, [make_task(tenant, queue=queue, **KEY) for _ in range(2)])
    page = f"/admin/tasks_app/limit/{limit.pk}/change/"
    assert admin_client.post(page, {"concurrency": ""}).status_code == 302
    look(bench)
    assert task_state(refused) == "dispatched"


@pytest.mark.parametrize("limit", [{"concurrency": 1}, {"rate": "1/h"}, {"max_share": 1}])
def test_a_lifted_limit_of_a_queue_is_seen_by_the_next_round(
    bench: Dispatcher, queue: str, tenant: Tenant, api: Api, limit: dict[str, Any]
) -> None:
    Queue.objects.create(name=queue, **limit)
    tasks = [make_task(tenant, queue=queue) for _ in range(20)]
    park_many(make_tenant(), keys=FULL_KEYS)
    for _ in range(3):
        look(bench)
    assert task_state(tasks[-1]) == "queued"
    assert api.patch(f"/queues/{queue}", dict.fromkeys(limit)).status_code == 200
    bench.round()
    assert task_state(tasks[-1]) == "dispatched"


def test_a_limit_that_is_lifted_while_nobody_leads_is_seen_by_the_first_look(
    bench: Dispatcher, queue: str, tenant: Tenant, api: Api
) -> None:
    api.patch("/concurrency-keys/one", {"concurrency": 1})
    refused = parked(bench, queue, [make_task(tenant, queue=queue, **KEY) for _ in range(2)])
    api.patch("/concurrency-keys/one", {"concurrency": None})
    Limit.objects.filter(of="key").update(changed_at="2020-01-01T00:00Z")
    place = bench.work._unblocking._place
    bench.work.rest(None)
    bench.work._unblocking._place = place
    bench.round()
    assert task_state(refused) == "dispatched"


def test_what_handlers_declare_no_more_is_seen_by_the_first_look(
    bench: Dispatcher, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [make_task(queue=queue, type="lifted.one") for _ in range(2)]
    refused = parked(bench, queue, tasks)
    monkeypatch.setattr(registry, "_handlers", {})
    place = bench.work._unblocking._place
    bench.work.rest(None)
    bench.work._unblocking._place = place
    bench.round()
    assert task_state(refused) == "dispatched"


def test_a_limit_whose_change_commits_late_is_seen_by_the_look_after_the_commit(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    caller = Caller(tenant_id=tenant.pk, actor="tests")
    change_key_limit(caller=caller, key="one", columns={"concurrency": 1})
    refused = parked(bench, queue, [make_task(tenant, queue=queue, **KEY) for _ in range(2)])
    place = bench.work._unblocking._place
    with connect("late") as late, late.transaction():
        look(bench)
        since = bench.work._unblocking._since
        assert since is not None
        began = since - timedelta(seconds=0.5)
        late.execute("UPDATE taskmill_limit SET concurrency = 9, changed_at = %s", [began])
    bench.work._unblocking._place = place
    look(bench)
    assert task_state(refused) == "dispatched"


def test_a_lifted_key_lets_all_go_that_it_had_parked_in_any_queue(
    bench: Dispatcher, queue: str, tenant: Tenant, api: Api
) -> None:
    other = served_queue(slots=900)
    api.patch("/concurrency-keys/one", {"concurrency": 1})
    new = [
        transitions.NewTask(
            tenant_id=tenant.pk,
            type="lifted.free",
            queue=name,
            payload={},
            max_retry=0,
            process_timeout=60,
            concurrency_key="one",
            max_concurrency=1000,
        )
        for name, count in ((queue, 250), (other, 150))
        for _ in range(count)
    ]
    with connection.cursor() as cursor:
        transitions.insert_tasks(cursor, new)
    parked(bench, queue, [new[-1].id])
    api.patch("/concurrency-keys/one", {"concurrency": None})
    look(bench)
    Limit.objects.filter(of="key").update(changed_at="2020-01-01T00:00Z")
    for _ in range(12):
        look(bench)
    assert Task.objects.filter(queue__in=(queue, other), state="blocked").count() == 0


@pytest.mark.parametrize(("since", "most"), [("now", 100), (None, 1500)])
def test_limits_that_were_changed_are_found_by_the_index_among_many(
    since: str | None, most: int
) -> None:
    values = {"since": since, "ended": unblocking.MOST_ENDED, "changed": unblocking.MOST_CHANGED}
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_limit (of, tenant_id, name, concurrency, changed_at)"
            " SELECT 'key', %s, 'key-' || k, 1, now() - k * interval '1 min'"
            " FROM generate_series(1, 50000) k",
            [make_tenant().pk],
        )
        cursor.execute("ANALYZE taskmill_limit")
    check_plan(unblocking._FREED, values, most=most, large=["taskmill_task", "taskmill_limit"])
