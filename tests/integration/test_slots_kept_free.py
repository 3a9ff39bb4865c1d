"""Slots that are kept free of any one tenant while several use a queue, without any setting."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.dispatch.loop import make_work
from tasks_app.dispatch.window import Window
from tasks_app.maintenance.canary import SendCanaries
from tasks_app.models import Queue, Task, Tenant
from tasks_app.selectors.canaries import CANARY_TENANT
from tasks_app.selectors.serving import held_by_shares
from tasks_app.states import UNDER_WAY
from tests.engines import Dispatcher, dispatcher, new_queue, running_loop
from tests.factories import claim, make_key, make_task, make_tenant, task_state
from tests.integration.api_client import Api
from tests.parking import many, out, rounds, served_queue
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def end(queue: str, tenant: Tenant, count: int) -> None:
    """End tasks that are out."""
    live = Task.objects.filter(queue=queue, tenant=tenant, state__in=UNDER_WAY)
    ids = [row[0] for row in live.values_list("id")[:count]]
    ended = {"state": "success", "finished_at": timezone.now(), "progress": 100}
    freed: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None, "run_deadline": None}
    Task.objects.filter(id__in=ids).update(**ended, **freed)


def share(bench: Dispatcher, queue: str, **fields: Any) -> tuple[Tenant, Tenant]:
    """Let a noisy and a quiet tenant share a queue, and the quiet one be done."""
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    many(20, noisy, queue)
    make_task(quiet, queue=queue, **fields)
    rounds(bench)
    end(queue, quiet, 1)
    end(queue, noisy, 20)
    many(20, noisy, queue)
    rounds(bench)
    return noisy, quiet


@pytest.mark.parametrize(("slots", "most"), [(8, 7), (15, 14), (17, 15)])
def test_after_tenants_shared_a_queue_none_of_them_has_all_of_it(
    valkey: Any, slots: int, most: int
) -> None:
    queue = served_queue(slots=slots)
    with dispatcher() as bench:
        _noisy, quiet = share(bench, queue)
        assert out(queue) == {"noisy": most}
        for task in Task.objects.filter(queue=queue, state="dispatched"):
            claim(task.id)
        rounds(bench)
        assert out(queue) == {"noisy": most}, "what runs counts as what is handed out"
        mine = make_task(quiet, queue=queue)
        bench.round()
        assert task_state(mine) == "dispatched"
        rounds(bench)
    assert out(queue) == {"noisy": most, "quiet": 1}


def test_a_tenant_of_a_larger_priority_shares_the_queue_too(bench: Dispatcher) -> None:
    queue = served_queue(slots=8)
    share(bench, queue, priority=5)
    assert out(queue) == {"noisy": 7}


def test_who_waits_for_a_slot_kept_free_is_told_so_and_the_queue_says_until_when(
    bench: Dispatcher,
) -> None:
    queue = served_queue(slots=8)
    noisy, _ = share(bench, queue)
    last = Task.objects.filter(queue=queue, state="queued").latest("id")
    api = Api(make_key(noisy))
    told = api.get(f"/tasks/{last.id}").json()["waiting"]
    limit = {"reason": "share_limit", "queue": queue, "used": 7, "limit": 7, "max_share": None}
    assert told[0] == limit
    assert held_by_shares([queue], cap=1000) == {queue: Task.objects.filter(state="queued").count()}
    until = Queue.objects.get(name=queue).shared_until
    assert until is not None
    shown = api.get(f"/queues/{queue}").json()
    assert (shown["max_share"], shown["shared_until"][:19]) == (None, until.isoformat()[:19])


def test_when_nobody_else_came_for_long_a_tenant_has_all_slots_again(bench: Dispatcher) -> None:
    queue = served_queue(slots=8)
    noisy, _ = share(bench, queue)
    past = timezone.now() - timedelta(seconds=1)
    Queue.objects.filter(name=queue).update(shared_until=past)
    rounds(bench)
    assert out(queue)["noisy"] > 7
    shown = Api(make_key(noisy)).get(f"/queues/{queue}").json()
    assert shown["shared_until"] is None


def test_another_leader_goes_on_keeping_slots_free(bench: Dispatcher) -> None:
    queue = served_queue(slots=8)
    noisy, _ = share(bench, queue)
    end(queue, noisy, 20)
    bench.work.rest(None)
    many(20, noisy, queue)
    rounds(bench)
    assert out(queue) == {"noisy": 7}


@pytest.mark.parametrize(
    ("slots", "settings", "columns"),
    [
        (7, {}, {}),
        (8, {"free_slot_of": 0}, {}),
        (8, {}, {"max_share": 100}),
        (8, {}, {"order": "oldest"}),
    ],
    ids=["few slots", "turned off", "the queue says all", "an order by time"],
)
def test_where_no_slot_is_kept_free(
    valkey: Any, slots: int, settings: dict[str, Any], columns: dict[str, Any]
) -> None:
    queue = served_queue(slots=slots)
    Queue.objects.create(name=queue, **columns)
    with dispatcher(**settings) as bench:
        share(bench, queue)
    assert out(queue)["noisy"] > slots
    assert (Queue.objects.get(name=queue).shared_until is None) == bool(settings or columns)


def test_a_queue_that_goes_over_to_an_order_by_time_keeps_none_free_and_keeps_its_order(
    bench: Dispatcher,
) -> None:
    queue = served_queue(slots=8)
    noisy, _ = share(bench, queue)
    Queue.objects.filter(name=queue).update(order="oldest")
    rounds(bench)
    assert out(queue)["noisy"] > 7
    last = Task.objects.filter(queue=queue, state="queued").latest("id")
    told = Api(make_key(noisy)).get(f"/tasks/{last.id}").json()["waiting"]
    assert "share_limit" not in [one["reason"] for one in told]


def test_of_one_tenant_no_slot_is_kept_free_though_its_fair_keys_share(bench: Dispatcher) -> None:
    queue = served_queue(slots=8)
    tenant = make_tenant("noisy")
    many(20, tenant, queue, fair_key="a")
    many(20, tenant, queue, fair_key="b")
    rounds(bench)
    assert out(queue)["noisy"] > 8
    assert Queue.objects.get(name=queue).shared_until is None


def test_a_canary_is_nobody_to_keep_a_slot_for(bench: Dispatcher) -> None:
    queue = served_queue(slots=8)
    many(20, make_tenant("noisy"), queue)
    Queue.objects.get_or_create(name=queue)
    SendCanaries(interval_seconds=1).run_once(bench.connection.cursor(), None)  # type: ignore[arg-type]
    assert Task.objects.filter(queue=queue, tenant__slug=CANARY_TENANT).exists()
    rounds(bench)
    assert Queue.objects.get(name=queue).shared_until is None


def test_of_tasks_so_short_that_a_slot_is_free_at_once_none_is_kept(
    bench: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = served_queue(slots=8)
    share(bench, queue)
    monkeypatch.setattr(Window, "is_faster", lambda *_, slots: True)
    rounds(bench)
    assert out(queue)["noisy"] > 7
    assert Queue.objects.get(name=queue).shared_until is None


def test_a_queue_that_is_being_edited_holds_up_no_round(bench: Dispatcher) -> None:
    queue = served_queue(slots=8)
    Queue.objects.create(name=queue)
    many(2, make_tenant("noisy"), queue)
    mine = make_task(make_tenant("quiet"), queue=queue)
    with connect("editor") as other, other.transaction():
        other.execute("SELECT FROM taskmill_queue WHERE name = %s FOR UPDATE", [queue])
        bench.round()
        assert task_state(mine) == "dispatched"
    assert Queue.objects.get(name=queue).shared_until is None


def test_real_workers_have_a_slot_for_whoever_comes_again(valkey: Any) -> None:
    queue = new_queue()
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    many(16, noisy, queue, type="demo.slow", payload={"seconds": 1})
    many(12, noisy, queue, type="demo.slow", payload={"seconds": 30})
    first = make_task(quiet, queue=queue, type="demo.slow", payload={"seconds": 0.01})
    with running_loop(make_work(), conf()), running_worker(queues=queue, concurrency=8):
        wait_for(lambda: task_state(first) == "success")
        long = Task.objects.filter(queue=queue, tenant=noisy, state="running", run_at__isnull=False)
        wait_for(lambda: long.filter(payload__seconds=30).count() == 7)
        again = make_task(quiet, queue=queue, type="demo.slow", payload={"seconds": 0.01})
        wait_for(lambda: task_state(again) == "success")
        assert out(queue) == {"noisy": 7}
