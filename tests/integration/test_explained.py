"""Queues that nobody serves say so everywhere; waiting tasks are counted and listed by reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app.maintenance.watch_queues import WatchQueues
from tasks_app.models import Limit, Queue, Task, Tenant
from tasks_app.selectors.serving import unserved_queues
from tasks_app.services.health import forget_health
from tests.engines import new_queue
from tests.factories import make_key, make_task, make_tenant, make_worker
from tests.integration.api_client import Api, pointers
from tests.integration.test_maintenance import run
from tests.integration.test_metrics import one, read

pytestmark = pytest.mark.django_db(transaction=True)
EACH_PENDING = ("queued", "dispatched", "scheduled", "retrying", "blocked")
WARNING = "tasks wait and no worker serves their queue"


@pytest.fixture
def queue() -> str:
    return new_queue()


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def last_seen(worker_id: str, seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_worker SET last_seen_at = now() - make_interval(secs => %s)"
            " WHERE id = %s",
            [seconds, worker_id],
        )


def watch(step: WatchQueues) -> None:
    with connection.cursor() as cursor:
        run(step, cursor)


def said_by_health() -> Any:
    forget_health()
    return Client().get("/health").json()["parts"]["workers"]


def metric(queue: str) -> float | None:
    return read().get(("taskmill_unserved_tasks", (("queue", queue),)))


def test_a_queue_whose_worker_is_gone_says_so_everywhere_within_15_seconds_of_its_last_sign(
    api: Api, tenant: Tenant, queue: str, valkey: Any, staff: Callable[..., Client]
) -> None:
    Queue.objects.create(name=queue)
    other, worker_id = make_worker("other"), make_worker(queue)
    make_task(tenant, queue=queue)
    make_task(tenant, queue=queue, state="dispatched")
    operator = staff("view_queue")

    def said(look: Callable[[], Any], age: float) -> Any:
        last_seen(other, 0.0)
        last_seen(worker_id, age)
        return look()

    def board() -> str:
        return str(operator.get("/admin/tasks_app/queue/").content.decode())

    for age, is_unserved in ((0.0, False), (11.0, False), (15.0, True)):
        shown = said(lambda: api.get(f"/queues/{queue}").json(), age)
        assert shown["is_unserved"] is is_unserved
        assert ("no worker serves it" in said(board, age)) is is_unserved
        health = said(said_by_health, age)
        assert health["unserved"] == ([queue] if is_unserved else [])
        assert (queue in health["detail"], health["status"]) == (is_unserved, "ok")
        assert said(lambda: metric(queue), age) == (2 if is_unserved else None)


@pytest.mark.parametrize("state", ["queued", "dispatched"])
def test_a_queue_is_unserved_while_tasks_wait_in_it_for_a_worker(
    api: Api, tenant: Tenant, queue: str, state: str
) -> None:
    make_task(tenant, queue=queue, state=state)
    assert api.get(f"/queues/{queue}").json()["is_unserved"]
    assert metric(queue) == 1
    stranger = Api(make_key(make_tenant("stranger")))
    Queue.objects.create(name=queue)
    assert not stranger.get(f"/queues/{queue}").json()["is_unserved"]
    Queue.objects.filter(name=queue).update(is_paused=True, paused_at="2026-01-01T00:00Z")
    assert not api.get(f"/queues/{queue}").json()["is_unserved"]
    assert metric(queue) is None


def test_nothing_waits_in_an_empty_queue_or_one_whose_tasks_have_ended(
    api: Api, tenant: Tenant, queue: str
) -> None:
    for state in ("scheduled", "running", "success", "failed"):
        make_task(tenant, queue=queue, state=state)
    assert not api.get(f"/queues/{queue}").json()["is_unserved"]
    assert metric(queue) is None


def test_the_engine_warns_once_per_change(queue: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    step, later = WatchQueues(), "no task waits any more for a worker of the queue"

    def said() -> tuple[int, int]:
        lines = [text for one in caplog.records if queue in (text := str(one.msg))]
        caplog.clear()
        return sum(WARNING in line for line in lines), sum(later in line for line in lines)

    watch(step)
    assert said() == (0, 0)
    make_task(queue=queue)
    for _ in range(3):
        watch(step)
    assert said() == (1, 0)
    worker_id = make_worker(queue)
    for _ in range(3):
        watch(step)
    assert said() == (0, 1)
    last_seen(worker_id, 20)
    watch(step)
    assert said() == (1, 0)


def test_the_hints_of_a_queue_without_worker_are_warned_of(queue: str) -> None:
    make_task(queue=queue, state="dispatched")
    with connection.cursor() as cursor:
        assert unserved_queues(cursor) == [queue]
    make_worker(queue)
    with connection.cursor() as cursor:
        assert unserved_queues(cursor) == []


def test_waiting_tasks_are_counted_once_each_by_their_weightiest_reason(tenant: Tenant) -> None:
    paused, unserved, full, open_, shared = (new_queue() for _ in range(5))
    make_worker(full, open_, paused)
    make_worker(shared, slots=4)
    Queue.objects.create(name=paused, is_paused=True, paused_at="2026-01-01T00:00Z")
    Queue.objects.create(name=full, concurrency=2)
    Queue.objects.create(name=shared, max_share=50)
    for state in ("dispatched", "queued"):
        make_task(make_tenant("other"), queue=shared, state=state)
    rated = make_task(tenant, queue=open_, state="blocked")
    Task.objects.filter(id=rated).update(blocked_by="rate/type/0/demo.echo")
    for queue, states in {
        paused: ["queued"] * 4,
        unserved: ["queued"] * 3 + ["dispatched"],
        full: ["running", "dispatched", "queued", "queued"],
        open_: [*EACH_PENDING, "running", "blocked", "success"],
        shared: ["running", "dispatched", *["queued"] * 5],
    }.items():
        for state in states:
            make_task(tenant, queue=queue, state=state)
    found = read()
    reasons = ("queue_paused", "no_worker", "queue_limit", "share_limit", "behind", "not_before")
    limits = ("concurrency_limit", "rate_limit")
    counts = [one(found, "taskmill_waiting_tasks", reason=reason) for reason in reasons]
    assert counts == [4, 4, 3, 5, 5, 2]
    assert [one(found, "taskmill_waiting_tasks", reason=reason) for reason in limits] == [2, 1]
    assert one(found, "taskmill_tasks", queue=open_, state="blocked") == 3
    assert one(found, "taskmill_unserved_tasks", queue=unserved) == 4


def test_what_died_in_the_last_minutes_is_counted_by_queue(tenant: Tenant, queue: str) -> None:
    for state in ("failed", "error", "timeout", "cancelled", "success"):
        make_task(tenant, queue=queue, state=state)
    old = make_task(make_tenant("other"), queue=queue, state="failed")
    assert one(read(), "taskmill_recent_dead_letters", queue=queue) == 4
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET finished_at = now() - interval '301 s' WHERE id = %s", [old]
        )
    assert one(read(), "taskmill_recent_dead_letters", queue=queue) == 3


def test_tasks_are_listed_by_the_reason_that_they_show(
    api: Api, tenant: Tenant, queue: str
) -> None:
    paused, open_ = new_queue(), new_queue()
    make_worker(open_, paused)
    Queue.objects.create(name=paused, is_paused=True, paused_at="2026-01-01T00:00Z")
    Queue.objects.create(name=queue)
    limit: dict[str, Any] = {"concurrency_key": "k", "max_concurrency": 1}
    make_task(tenant, queue=open_, state="running", **limit)
    made = {
        "queue_paused": [make_task(tenant, queue=paused, state=s) for s in ("queued", "scheduled")],
        "no_worker": [make_task(tenant, queue=queue, state=s) for s in ("queued", "retrying")],
        "not_before": [make_task(tenant, queue=open_, state=s) for s in ("scheduled", "retrying")],
        "concurrency_limit": [make_task(tenant, queue=open_, state="blocked", **limit)],
    }  # fmt: skip
    Limit.objects.create(of="type", name="tests.order", rate="1/d")
    made["rate_limit"] = [make_task(tenant, queue=open_, state="blocked", type="tests.order")]
    Task.objects.filter(id=made["rate_limit"][0]).update(blocked_by="rate/type/0/tests.order")
    made["not_before"] += [made["queue_paused"][1], made["no_worker"][1]]
    make_task(tenant, queue=open_)
    make_task(make_tenant("other"), queue=paused)
    make_task(tenant, queue=paused, state="success")
    for reason, tasks in made.items():
        listed = api.get(f"/tasks?waiting={reason}&count=true").json()
        assert {row["id"] for row in listed["results"]} == {str(task) for task in tasks}, reason
        assert listed["count"] == len(tasks)
        for task in tasks:
            waiting = api.get(f"/tasks/{task}").json()["waiting"]
            assert reason in {one["reason"] for one in waiting}
    queued = api.get("/tasks?waiting=queue_paused&state=queued").json()["results"]
    assert [row["id"] for row in queued] == [str(made["queue_paused"][0])]
    Queue.objects.update(is_paused=False, paused_at=None)
    assert api.get("/tasks?waiting=queue_paused").json()["results"] == []
    for wrong in ("waiting=behind", "waiting=", "waiting=not_before&status=failed"):
        assert pointers(api.get(f"/tasks?{wrong}")) == ["/query/waiting"]
