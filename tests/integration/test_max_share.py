"""The most of a queue's slots that one tenant may hold: by rows, live, explained."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app import transitions
from tasks_app.conf import conf
from tasks_app.dispatch.loop import make_work
from tasks_app.models import Queue, Task
from tasks_app.selectors import waiting_reasons
from tasks_app.transitions import flows
from tests.attempts import succeed_one
from tests.engines import Dispatcher, new_queue, running_loop
from tests.factories import claim, make_key, make_task, make_tenant, task_state
from tests.integration.api_client import Api, pointers
from tests.parking import many, out, rounds, served_queue
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue() -> str:
    """A queue of 8 slots of which a tenant may hold 6."""
    name = served_queue(slots=8)
    Queue.objects.create(name=name, max_share=75)
    return name


def test_a_tenant_alone_leaves_the_slots_free_that_it_may_not_hold(
    bench: Dispatcher, queue: str
) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    tasks = many(20, noisy, queue, fair_key="a") + many(20, noisy, queue, fair_key="b")
    rounds(bench)
    assert out(queue) == {"noisy": 6}
    for task in Task.objects.filter(queue=queue, state="dispatched"):
        claim(task.id)
    rounds(bench)
    assert out(queue) == {"noisy": 6}, "what runs counts as what is handed out"
    mine = make_task(quiet, queue=queue)
    bench.round()
    assert task_state(mine) == "dispatched"
    running = Task.objects.filter(id__in=tasks, state="running").first()
    assert running is not None
    with connection.cursor() as cursor:
        assert succeed_one(cursor, running.id, epoch=running.epoch)
    assert out(queue) == {"noisy": 5, "quiet": 1}
    rounds(bench)
    assert out(queue) == {"noisy": 6, "quiet": 1}


def test_one_slot_is_anybodys_however_small_the_share(bench: Dispatcher) -> None:
    queue = served_queue(slots=4)
    Queue.objects.create(name=queue, max_share=1)
    many(3, make_tenant("one"), queue)
    many(3, make_tenant("other"), queue)
    rounds(bench)
    assert out(queue) == {"one": 1, "other": 1}


def test_a_tenant_that_may_have_no_more_keeps_nobody_of_a_smaller_priority_waiting(
    bench: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "MOST_TENANTS", 2)
    queue = served_queue(slots=20)
    Queue.objects.create(name=queue, max_share=10)
    noisy = [make_tenant() for _ in range(4)]
    for priority in range(10, 30):
        for tenant in noisy:
            many(2, tenant, queue, priority=priority)
    last = make_task(make_tenant("quiet"), queue=queue, priority=1)
    rounds(bench, 4)
    assert task_state(last) == "dispatched"
    found = out(queue)
    assert found.pop("quiet") == 1
    assert list(found.values()) == [2] * 4


def test_tenants_that_may_have_no_more_do_not_fill_the_look_for_flows(
    bench: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "MOST_TENANTS", 1)
    queue = served_queue(slots=40)
    Queue.objects.create(name=queue, max_share=2)
    noisy = [make_tenant() for _ in range(15)]
    quiet = make_tenant("quiet")
    for tenant in (*noisy, *(make_tenant() for _ in range(15))):
        many(2, tenant, queue)
    rounds(bench, 6)
    assert set(out(queue).values()) == {1}
    for task in Task.objects.filter(queue=queue, state="dispatched"):
        claim(task.id)
    mine = make_task(quiet, queue=queue)
    bench.round()
    assert task_state(mine) == "dispatched"


def test_the_dispatcher_looks_again_soon_while_a_tenant_may_have_no_more(
    bench: Dispatcher, queue: str
) -> None:
    many(20, make_tenant("noisy"), queue)
    rounds(bench)
    bench.work._confirmed.clear()  # nothing else is to be done soon
    bench.work._unblocking.at = inf
    assert bench.round().wait_seconds <= 0.1


def test_the_share_is_changed_and_lifted_live(bench: Dispatcher, queue: str) -> None:
    tenant = make_tenant("noisy")
    api = Api(make_key(tenant))
    many(20, tenant, queue)
    for share, most in ((50, 4), (75, 6), (25, 6)):
        answer = api.patch(f"/queues/{queue}", {"max_share": share})
        assert answer.json()["max_share"] == share
        rounds(bench)
        assert out(queue) == {"noisy": most}
    for everything in (100, None):
        Task.objects.filter(queue=queue, state="dispatched").update(
            state="queued", dispatched_at=None
        )
        api.patch(f"/queues/{queue}", {"max_share": everything})
        rounds(bench)
        assert out(queue)["noisy"] > 8


def test_a_waiting_task_says_that_its_tenant_holds_its_share(bench: Dispatcher, queue: str) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    last = many(9, noisy, queue)[-1]
    first = make_task(quiet, queue=queue)
    api = Api(make_key(noisy))
    reasons = api.get(f"/tasks/{last}").json()["waiting"]
    assert [one["reason"] for one in reasons] == ["behind"]
    Task.objects.filter(id=first).update(run_at="2099-01-01T00:00Z")
    rounds(bench)
    told = api.get(f"/tasks/{last}").json()["waiting"]
    assert told[0] == {
        "reason": "share_limit",
        "queue": queue,
        "used": 6,
        "limit": 6,
        "max_share": 75,
    }
    others = waiting_reasons(tenant_id=quiet.pk, task_id=first) or []
    assert "share_limit" not in [one["reason"] for one in others]


@pytest.mark.parametrize("wrong", [0, 101, 1.5, "50", True])
def test_a_wrong_share_is_told_by_its_place(queue: str, wrong: Any) -> None:
    answer = Api(make_key(make_tenant())).patch(f"/queues/{queue}", {"max_share": wrong})
    assert (answer.status_code, pointers(answer)) == (422, ["/max_share"])


def test_orders_by_time_take_no_share(queue: str) -> None:
    api = Api(make_key(make_tenant()))
    answers = [
        api.patch(f"/queues/{queue}", {"order": "oldest"}),
        api.post("/queues", {"name": new_queue(), "order": "newest", "max_share": 50}),
    ]
    for answer in answers:
        assert (answer.status_code, pointers(answer)) == (422, ["/max_share"])
        assert "order priority" in answer.json()["detail"]
    assert Queue.objects.get(name=queue).order == "priority"
    assert api.patch(f"/queues/{queue}", {"order": "oldest", "max_share": None}).status_code == 200


def test_operators_set_the_share_in_the_admin(admin_client: Client, queue: str) -> None:
    page = f"/admin/tasks_app/queue/{queue}/change/"
    form = {"name": queue, "order": "priority", "retry_policy": "null", "max_share": "40"}
    assert admin_client.post(page, form).status_code == 302
    assert Queue.objects.get(name=queue).max_share == 40
    for wrong, told in (
        ({"max_share": "0"}, "greater than"),
        ({"order": "oldest"}, "do not share"),
    ):
        answer = admin_client.post(page, form | wrong)
        assert answer.status_code == 200
        assert told in answer.content.decode()


def test_real_workers_keep_a_slot_free_for_a_quiet_tenant(valkey: Any) -> None:
    queue = new_queue()
    Queue.objects.create(name=queue, max_share=50)
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    many(2, noisy, queue, type="demo.slow", payload={"seconds": 30})
    with running_loop(make_work(), conf()), running_worker(queues=queue):
        running = Task.objects.filter(queue=queue, tenant=noisy, state="running")
        wait_for(lambda: running.count() == 1)
        mine = make_task(quiet, queue=queue, type="demo.slow", payload={"seconds": 0.01})
        wait_for(lambda: task_state(mine) == "success")
        assert out(queue) == {"noisy": 1}


def test_the_first_level_of_others_is_found_by_the_index_of_flows(db: None) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    new = [
        transitions.NewTask(
            tenant_id=tenant.id,
            type="t",
            queue="q",
            payload={},
            max_retry=0,
            process_timeout=60,
            priority=number % 5,
        )
        for tenant, count in ((noisy, 3000), (quiet, 1))
        for number in range(count)
    ]
    values: dict[str, Any] = {"queue": "q", "below": flows.ABOVE_ALL, "after": -1, "tenants": 32}
    values |= {"of": [], "keys": [], "of_each": 16, "passed_over": [noisy.id]}
    values |= {"from": [-1, noisy.id], "to": [noisy.id, 2**62]}
    with connection.cursor() as cursor:
        for start in range(0, len(new), 1000):
            transitions.insert_tasks(cursor, new[start : start + 1000])
        cursor.execute("ANALYZE taskmill_task")
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {flows._FIND_OTHERS}", values)
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan on taskmill_task" not in plan
    assert "Removed by Filter: 3" not in plan
    assert "task_list" not in plan
