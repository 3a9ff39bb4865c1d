"""When the dispatch loop looks for parked tasks: woken by what frees them, else ever rarer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test import Client
from psycopg import Connection

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.dispatch import loop as dispatch_loop
from tasks_app.dispatch import unblocking
from tasks_app.models import Limit, Queue, Tenant
from tasks_app.services.caller import Caller
from tasks_app.services.limits import change_key_limit
from tests.engines import dispatcher, running_loop
from tests.factories import ERROR, claim, make_task, make_tenant, succeed, task_state
from tests.parking import served_queue
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
KEY: dict[str, Any] = {"concurrency_key": "one", "max_concurrency": 1}
FAULT = orjson.dumps(ERROR | {"attempt": 1}).decode()
FEW_LOOKS = 3
NO_POLL_SECONDS = 60.0
"""Longer than a test waits: what happens sooner was rung for, or foreseen."""


@pytest.fixture
def queue() -> str:
    return served_queue()


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


def parked(tenant: Tenant, queue: str) -> tuple[uuid.UUID, uuid.UUID]:
    """Submit a task that will hold its key, and one that it will park."""
    return make_task(tenant, queue=queue, **KEY), make_task(tenant, queue=queue, **KEY)


@contextmanager
def sleeping_loop() -> Iterator[Callable[[], int]]:
    """Run the dispatch loop as if it had long found nothing: after a few looks it wakes for bells
    alone, and for tokens. Gives how often it has looked.
    """
    looks: list[float] = []

    class Counted(unblocking.Unblocking):
        def _plan(self, freed: int) -> None:
            if len(looks) >= FEW_LOOKS:
                self._rest = self._poll_seconds
            super()._plan(freed)
            looks.append(self.at)

    work = dispatch_loop.make_work()
    work._settings = replace(conf(), dispatch_poll_seconds=NO_POLL_SECONDS)
    work._unblocking = Counted(poll_seconds=NO_POLL_SECONDS)
    with running_loop(work, conf()):
        yield lambda: len(looks)


def wait_until_it_rests(looks: Callable[[], int]) -> None:
    wait_for(lambda: looks() >= FEW_LOOKS + 2)


def fail(task_id: uuid.UUID) -> None:
    epoch = claim(task_id)
    with connection.cursor() as cursor:
        assert transitions.fail(cursor, task_id, epoch=epoch, state="failed", error=FAULT)


def retry(task_id: uuid.UUID) -> None:
    epoch = claim(task_id)
    with connection.cursor() as cursor:
        assert transitions.retry(cursor, task_id, epoch=epoch, delay_seconds=3600, error=FAULT)


def lose(task_id: uuid.UUID) -> None:
    epoch = claim(task_id)
    with connection.cursor() as cursor:
        assert transitions.lose(cursor, task_id, epoch=epoch, max_rescues=3)


def rescue(task_id: uuid.UUID) -> None:
    claim(task_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET lease_expires_at = now() - interval '1 h' WHERE id = %s",
            [task_id],
        )
        assert transitions.rescue(cursor, grace_seconds=1, max_rescues=3) == 1


def expire_running(task_id: uuid.UUID) -> None:
    claim(task_id)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET run_deadline = now() - interval '1 h' WHERE id = %s",
            [task_id],
        )
        assert transitions.expire_running(cursor, grace_seconds=1) == 1


def expire_pending(task_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET queue_deadline = now() - interval '1 h' WHERE id = %s",
            [task_id],
        )
        assert transitions.expire_pending(cursor) == 1


def cancel(task_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tenant_id FROM taskmill_task WHERE id = %s", [task_id])
        values: dict[str, Any] = {"tenant_id": cursor.fetchone()[0], "task_id": task_id}
        values |= {"actor": "tests", "reason": "", "grace_seconds": None}
        transitions.request_cancel(cursor, **values)


def stop(task_id: uuid.UUID) -> None:
    epoch = claim(task_id)
    cancel(task_id)
    with connection.cursor() as cursor:
        assert transitions.confirm_cancel(cursor, task_id, epoch=epoch, how="cooperative")


def hand_back(task_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        assert transitions.hand_back(
            cursor, task_id, dispatch_seq=1, worker="w", delay_seconds=3600, limit=9, error="{}"
        )


ENDS = (
    *(succeed, fail, retry, lose, rescue, expire_running, expire_pending, cancel, stop),
    hand_back,
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_whatever_frees_a_slot_wakes_the_loop_for_what_is_parked_by_it(
    valkey: Any, queue: str, tenant: Tenant, end: Callable[[uuid.UUID], None]
) -> None:
    holder, follower = parked(tenant, queue)
    with sleeping_loop() as looks:
        wait_for(lambda: task_state(follower) == "blocked")
        wait_until_it_rests(looks)
        end(holder)
        wait_for(lambda: task_state(follower) == "dispatched")


def test_the_end_of_a_type_s_task_wakes_the_loop(valkey: Any, queue: str) -> None:
    Limit.objects.create(of="type", name="tests.echo", concurrency=1)
    holder, follower = make_task(queue=queue), make_task(queue=queue)
    with sleeping_loop() as looks:
        wait_for(lambda: task_state(follower) == "blocked")
        wait_until_it_rests(looks)
        succeed(holder)
        wait_for(lambda: task_state(follower) == "dispatched")


def test_an_edited_limit_wakes_the_loop(valkey: Any, queue: str, tenant: Tenant) -> None:
    _, follower = parked(tenant, queue)
    caller = Caller(tenant_id=tenant.pk, actor="tests")
    with sleeping_loop() as looks:
        wait_for(lambda: task_state(follower) == "blocked")
        wait_until_it_rests(looks)
        change_key_limit(caller=caller, key="one", columns={"concurrency": 2})
        wait_for(lambda: task_state(follower) == "dispatched")


def test_limits_and_queues_edited_in_the_admin_wake_the_loop(
    valkey: Any, admin_client: Client, queue: str, tenant: Tenant
) -> None:
    _, follower = parked(tenant, queue)
    limit = Limit.objects.create(of="key", tenant=tenant, name="one", concurrency=1)
    Queue.objects.create(name=queue, concurrency=1)
    with sleeping_loop() as looks:
        wait_for(lambda: task_state(follower) == "queued")
        form = {"name": queue, "order": "priority", "retry_policy": "null"}
        answer = admin_client.post(f"/admin/tasks_app/queue/{queue}/change/", form)
        assert answer.status_code == 302
        wait_for(lambda: task_state(follower) == "blocked")
        wait_until_it_rests(looks)
        page = f"/admin/tasks_app/limit/{limit.pk}/change/"
        assert admin_client.post(page, {"concurrency": "2"}).status_code == 302
        wait_for(lambda: task_state(follower) == "dispatched")


def test_a_token_is_used_when_it_is_due_without_a_poll(
    valkey: Any, queue: str, tenant: Tenant
) -> None:
    Limit.objects.create(of="key", tenant=tenant, name="rated", rate="1/2s")
    first, second, third = (
        make_task(tenant, queue=queue, concurrency_key="rated") for _ in range(3)
    )
    with sleeping_loop() as looks:
        wait_for(lambda: task_state(third) == "dispatched")
    assert (task_state(first), task_state(second)) == ("dispatched", "dispatched")
    assert looks() < 40, "and not 50 times a second"


def test_after_a_token_was_used_its_rate_is_looked_at_again_at_once(
    valkey: Any, queue: str, tenant: Tenant
) -> None:
    limit = Limit.objects.create(of="key", tenant=tenant, name="rated", rate="2/h")
    tasks = [make_task(tenant, queue=queue, concurrency_key="rated") for _ in range(3)]
    with dispatcher(dispatch_poll_seconds=NO_POLL_SECONDS) as bench:
        looks = bench.work._unblocking
        for _ in range(2):
            looks.forget()
            bench.round()
        assert [task_state(one) for one in tasks] == ["dispatched", "dispatched", "blocked"]
        [rule] = looks._again_at
        Limit.objects.filter(pk=limit.pk).update(spent=[])
        looks._rest, looks._tour_at, looks._again_at = NO_POLL_SECONDS, inf, {rule: 0.0}
        looks.at = 0.0
        assert bench.round().counts["unblocked"] == 1
        assert looks._again_at[rule] - monotonic() <= unblocking.LEAST_SECONDS


def test_looks_that_find_nothing_become_rare_and_begin_again_after_a_bell(
    valkey: Any, queue: str, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    for module in (dispatch_loop, unblocking):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    looks = 0
    look = transitions.unblock_freed

    def counted(cursor: Any, **values: Any) -> transitions.Unblocked:
        nonlocal looks
        looks += 1
        return look(cursor, **values)

    monkeypatch.setattr(transitions, "unblock_freed", counted)
    holder, follower = parked(tenant, queue)
    with dispatcher() as bench:

        def idle(seconds: float) -> int:
            before, end = looks, now[0] + seconds
            while now[0] < end:
                now[0] += bench.round().wait_seconds
            return looks - before

        assert idle(10) < 20
        assert idle(60) <= 61
        assert task_state(follower) == "blocked"
        bench.is_rung = True
        bench.round()
        bench.is_rung = False
        assert idle(0.1) >= 2
        succeed(holder)
        idle(1.0)
        assert task_state(follower) == "dispatched"


@contextmanager
def bells() -> Iterator[Callable[[], int]]:
    """Listen to what the dispatch loop listens to; gives how many rang since the last time."""
    with connect("test") as listening:
        listening.execute("LISTEN taskmill_dispatch")
        yield lambda: _heard(listening)


def _heard(listening: Connection[Any]) -> int:
    return sum(1 for _ in listening.notifies(timeout=0.05))


def test_ends_ring_only_where_something_is_parked_by_their_rule(queue: str, tenant: Tenant) -> None:
    free, holder = make_task(tenant, state="dispatched"), make_task(tenant, **KEY)
    with connection.cursor() as cursor:
        assert transitions.dispatch(cursor, queue="default", room=9)
        other = make_task(tenant, state="dispatched", concurrency_key="other", max_concurrency=1)
        make_task(tenant, state="blocked", **KEY)
        with bells() as heard:
            succeed(free)
            succeed(other)
            assert heard() == 0
            succeed(holder)
            assert heard() == 1
