"""Shares of tenants and fair keys, turns of smaller priorities: the dispatch loop on PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app.conf import conf
from tasks_app.dispatch.loop import make_work
from tasks_app.models import Queue, Task, Tenant
from tasks_app.selectors import waiting_reasons
from tasks_app.transitions import flows
from tests import task_handlers  # noqa: F401 - registers the types
from tests.engines import Dispatcher, dispatcher, new_queue, read_hints, running_loop
from tests.factories import claim, make_key, make_task, make_tenant, make_worker
from tests.integration.api_client import Api, pointers
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def bench(valkey: Any) -> Iterator[Dispatcher]:
    with dispatcher(ageing_share=4) as one:
        yield one


@pytest.fixture
def queue() -> str:
    return new_queue()


def open_window(queue: str, size: int, **fields: Any) -> None:
    """Let so many hints of the queue be out, whoever shares it."""
    Queue.objects.create(name=queue, window_least=size, window_most=size, **fields)


def many(count: int, tenant: Tenant, queue: str, **fields: Any) -> list[Any]:
    return [make_task(tenant, queue=queue, **fields) for _ in range(count)]


def owners(queue: str) -> list[str]:
    """Give the tenants of the hints that left since the last time, in their order."""
    ids = [hint.task_id for hint in read_hints(queue)]
    found = {str(one.id): one.tenant.slug for one in Task.objects.select_related("tenant")}
    return [found[task_id] for task_id in ids]


def claim_all(queue: str) -> None:
    """Let workers take what was handed out."""
    for task in Task.objects.filter(queue=queue, state="dispatched"):
        claim(task.id)


def finish(*tenants: Tenant) -> None:
    """Let what runs of the tenants end, of all without any."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET state = 'success', finished_at = now(), lease_owner = NULL,"
            " lease_expires_at = NULL WHERE state = 'running' AND (%s OR tenant_id = ANY(%s))",
            [not tenants, [tenant.id for tenant in tenants]],
        )


def run_all(queue: str) -> None:
    """Let workers take what was handed out, and let it end."""
    claim_all(queue)
    finish()


def test_a_quiet_tenant_overtakes_the_backlog_of_a_noisy_one(bench: Dispatcher, queue: str) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    make_worker(queue, slots=4)
    open_window(queue, 8)
    many(60, noisy, queue)
    assert bench.round().counts["dispatched"] == 8
    assert set(owners(queue)) == {"noisy"}
    mine = many(4, quiet, queue)
    claim_all(queue)
    bench.round()
    assert owners(queue)[:4] == ["quiet"] * 4
    assert Task.objects.filter(id__in=mine, state="dispatched").count() == 4


def test_a_tenant_whose_tasks_run_long_gets_no_more_slots_than_others(
    bench: Dispatcher, queue: str
) -> None:
    long, short = make_tenant("long"), make_tenant("short")
    make_worker(queue, slots=8)
    many(20, long, queue)
    many(60, short, queue)
    waiting: list[str] = []
    for _ in range(15):
        bench.round()
        waiting += [hint.task_id for hint in read_hints(queue, wait=0.05)]
        free = 8 - Task.objects.filter(queue=queue, state="running").count()
        for task_id in waiting[:free]:
            claim(task_id)
        waiting = waiting[free:]
        finish(short)
    assert 3 <= Task.objects.filter(state="running", tenant=long).count() <= 5
    assert Task.objects.filter(tenant=short, state="success").count() >= 20


def test_tenants_share_by_their_weights_and_their_keys_evenly(
    bench: Dispatcher, queue: str
) -> None:
    heavy, light = make_tenant("heavy"), make_tenant("light")
    Tenant.objects.filter(id=heavy.id).update(weight=3)
    make_worker(queue, slots=16)
    open_window(queue, 32)
    for key in ("a", "b", ""):
        many(20, heavy, queue, fair_key=key)
    many(40, light, queue, fair_key="c")
    assert bench.round().counts["dispatched"] == 32
    counts = Counter(
        Task.objects.filter(state="dispatched").values_list("tenant__slug", "fair_key")
    )
    assert counts == {
        ("heavy", "a"): 8,
        ("heavy", "b"): 8,
        ("heavy", ""): 8,
        ("light", "c"): 8,
    }


def test_a_larger_priority_goes_first_whoever_has_it(bench: Dispatcher, queue: str) -> None:
    one, other = make_tenant("one"), make_tenant("other")
    make_worker(queue, slots=4)
    open_window(queue, 8)
    many(6, one, queue, priority=5)
    many(6, other, queue, priority=1)
    many(6, one, queue, priority=1)
    bench.round()
    assert owners(queue) == ["one"] * 6 + ["other"] * 2


def test_tasks_of_a_flow_go_in_the_order_of_their_coming(bench: Dispatcher, queue: str) -> None:
    tenants = [make_tenant(), make_tenant()]
    make_worker(queue, slots=8)
    tasks = [make_task(tenants[number % 2], queue=queue) for number in range(40)]
    left: list[str] = []
    while len(left) < 40:
        bench.round()
        left += [hint.task_id for hint in read_hints(queue)]
        run_all(queue)
    for number in range(2):
        wanted = [str(one) for one in tasks[number::2]]
        assert [one for one in left if one in wanted] == wanted


def test_hints_of_flows_that_share_leave_in_turns(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=4)
    open_window(queue, 8)
    many(10, make_tenant("one"), queue)
    many(10, make_tenant("other"), queue)
    bench.round()
    assert owners(queue) == ["one", "other"] * 4


def test_room_that_a_tenant_cannot_use_is_anothers(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=10)
    open_window(queue, 20)
    many(30, make_tenant("noisy"), queue)
    many(1, make_tenant("quiet"), queue)
    many(2, make_tenant("calm"), queue, priority=-1)
    assert bench.round().counts["dispatched"] == 20
    assert Counter(owners(queue)) == {"noisy": 19, "quiet": 1}


def test_more_flows_than_a_look_sees_are_all_served_before_a_smaller_priority(
    bench: Dispatcher, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "MOST_TENANTS", 3)
    monkeypatch.setattr(flows, "MOST_KEYS", 2)
    make_worker(queue, slots=15)
    open_window(queue, 30)
    last = make_task(queue=queue, priority=-1)
    tenants = [make_tenant() for _ in range(7)]
    tasks = [
        make_task(tenant, queue=queue, fair_key=f"key-{number % 4}")
        for tenant in tenants
        for number in range(4)
    ]
    handed_out = bench.round().counts["dispatched"]
    while handed_out < 29:
        assert Task.objects.get(id=last).state == "queued"
        count = bench.round().counts["dispatched"]
        assert count
        handed_out += count
    assert not Task.objects.filter(id__in=tasks, state="queued").exists()


def aged(queue: str, priority: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET run_at = run_at - interval '61 s'"
            " WHERE queue = %s AND priority = %s",
            [queue, priority],
        )


def test_priorities_that_have_waited_long_get_one_of_so_many_turns_each(
    bench: Dispatcher, queue: str
) -> None:
    tenant = make_tenant()
    make_worker(queue, slots=1)
    open_window(queue, 4)
    many(60, tenant, queue, priority=9)
    for priority in (1, 2, 3):
        many(2, tenant, queue, priority=priority)
    aged(queue, 1)
    aged(queue, 3)
    priorities: list[int] = []
    for _ in range(6):
        bench.round()
        ids = [hint.task_id for hint in read_hints(queue)]
        found = {str(one.id): one.priority for one in Task.objects.filter(id__in=ids)}
        priorities += [found[task_id] for task_id in ids]
        run_all(queue)
    assert Counter(priorities) == {9: 20, 3: 2, 1: 2}
    assert [one for one in priorities if one != 9] == [3, 1, 3, 1]


def test_a_queue_says_itself_after_how_long_a_smaller_priority_gets_its_turn(
    bench: Dispatcher, queue: str
) -> None:
    tenant = make_tenant()
    make_worker(queue, slots=1)
    open_window(queue, 4, ageing_seconds=600)
    many(20, tenant, queue, priority=9)
    low = make_task(tenant, queue=queue, priority=1)
    aged(queue, 1)
    for _ in range(3):
        bench.round()
        run_all(queue)
    assert Task.objects.get(id=low).state == "queued"
    Queue.objects.filter(name=queue).update(ageing_seconds=60)
    bench.work._sharing._queues[queue].look_at = 0.0
    bench.round()
    assert Task.objects.get(id=low).state == "dispatched"


def test_real_workers_take_a_quiet_tenants_tasks_before_a_noisy_ones_backlog(
    valkey: Any, queue: str
) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    nap = {"type": "demo.slow", "payload": {"seconds": 0.02}}
    many(300, noisy, queue, **nap)
    with running_loop(make_work(), conf()), running_worker(queues=queue):
        done = Task.objects.filter(queue=queue, state="success")
        wait_for(lambda: done.count() >= 10)
        mine = many(6, quiet, queue, **nap)
        wait_for(lambda: done.filter(id__in=mine).count() == 6, seconds=60)
        Task.objects.filter(queue=queue, state="queued").delete()
        wait_for(lambda: not Task.objects.filter(queue=queue, finished_at=None).exists())
    came = Task.objects.get(id=mine[0]).created_at
    last = max(one.started_at for one in Task.objects.filter(id__in=mine) if one.started_at)
    passed = Task.objects.filter(tenant=noisy, started_at__range=(came, last)).count()
    assert passed <= 60, "of nearly 300 that waited longer"


def position(task_id: Any) -> int:
    task = Task.objects.get(id=task_id)
    reasons = waiting_reasons(tenant_id=task.tenant_id, task_id=task_id) or []
    return next((one["position"] for one in reasons if one["reason"] == "behind"), 0)


def test_a_position_counts_of_the_others_what_their_shares_allow(queue: str) -> None:
    noisy, quiet, small = make_tenant("noisy"), make_tenant("quiet"), make_tenant("small")
    Tenant.objects.filter(id=noisy.id).update(weight=2)
    many(30, noisy, queue, fair_key="a")
    many(30, noisy, queue, fair_key="b")
    many(1, small, queue)
    mine = many(4, quiet, queue)
    many(2, small, queue, priority=7)
    assert [position(one) for one in mine] == [4, 7, 10, 13]
    last = Task.objects.filter(fair_key="b", queue=queue).order_by("id").last()
    assert last is not None
    assert position(last.id) == 2 + 29 + 30 + 1 + 4


def test_orders_by_time_do_not_share(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=4)
    Queue.objects.create(name=queue, order="oldest")
    many(20, make_tenant("noisy"), queue)
    many(5, make_tenant("quiet"), queue, priority=5)
    bench.round()
    assert set(owners(queue)) == {"noisy"}


def test_tasks_with_a_rule_are_decided_about_in_shares_too(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=4)
    open_window(queue, 8)
    limited = {"concurrency_key": "k", "max_concurrency": 1}
    many(6, make_tenant("noisy"), queue, **limited)
    many(3, make_tenant("quiet"), queue)
    round_ = bench.round()
    assert (round_.counts["dispatched"], round_.counts["parked"]) == (4, 4)
    assert Counter(owners(queue)) == {"quiet": 3, "noisy": 1}


def test_a_window_is_narrow_while_flows_share_and_wide_where_the_queue_says_so(
    bench: Dispatcher, queue: str
) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    make_worker(queue, slots=2)
    many(60, noisy, queue)
    many(1, quiet, queue)
    bench.round()
    run_all(queue)
    bench.round()
    out = Task.objects.filter(queue=queue, state="dispatched").count()
    assert out < 60
    for task in list(Task.objects.filter(queue=queue, state="dispatched"))[:2]:
        claim(task.id)
    bench.work._windows[queue]._mean_rate = 0.0
    assert bench.round().counts["dispatched"] == 0
    Queue.objects.filter(name=queue).update(window_least=40)
    assert bench.round().counts["dispatched"] > 10


def test_a_fair_key_is_stored_shown_and_taken_over_by_a_rerun(valkey: Any) -> None:
    api = Api(make_key(make_tenant("acme")))
    task = api.post("/tasks", {"type": "tests.echo", "fair_key": "customer-17"}).json()
    assert task["fair_key"] == "customer-17"
    assert api.get(f"/tasks/{task['id']}").json()["fair_key"] == "customer-17"
    assert api.post(f"/tasks/{task['id']}/rerun", {}).json()["fair_key"] == "customer-17"
    assert api.post("/tasks", {"type": "tests.echo"}).json()["fair_key"] is None


@pytest.mark.parametrize("wrong", ["", "k" * 201, 7, ["a"]])
def test_a_wrong_fair_key_is_told_by_its_place(wrong: Any) -> None:
    api = Api(make_key(make_tenant("acme")))
    answer = api.post("/tasks", {"type": "tests.echo", "fair_key": wrong})
    assert answer.status_code == 422
    assert pointers(answer) == ["/fair_key"]


def test_operators_set_the_weight_of_a_tenant_and_the_ageing_of_a_queue_in_the_admin(
    admin_client: Client, queue: str
) -> None:
    tenant = make_tenant()
    page = f"/admin/tasks_app/tenant/{tenant.pk}/change/"
    form = {"name": "Acme", "is_active": "on", "weight": "3"}
    assert admin_client.post(page, form).status_code == 302
    assert Tenant.objects.get(pk=tenant.pk).weight == 3
    assert (
        "greater than or equal to 1"
        in admin_client.post(page, form | {"weight": "0"}).content.decode()
    )
    Queue.objects.create(name=queue)
    answer = admin_client.post(
        f"/admin/tasks_app/queue/{queue}/change/",
        {"name": queue, "order": "priority", "retry_policy": "null", "ageing_seconds": "30"},
    )
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    assert Queue.objects.get(name=queue).ageing_seconds == 30
