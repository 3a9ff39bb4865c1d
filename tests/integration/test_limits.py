"""Limits in dispatch: types, keys and queues, several at once, rates, strategies, many keys."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tasks_app import registry, transitions
from tasks_app.clock import monotonic
from tasks_app.models import Event, Limit, Queue, Task, Tenant
from tasks_app.registry import handler
from tasks_app.services.caller import Caller
from tasks_app.services.limits import change_key_limit, change_type_limit
from tasks_app.services.queues import change_queue
from tasks_app.transitions import unblocking
from tests.engines import Dispatcher, dispatcher, new_queue, read_hints
from tests.factories import (
    claim,
    make_task,
    make_tenant,
    make_worker,
    succeed,
    task_column,
    task_state,
)
from tests.parking import park_many, served_queue
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
KEY: dict[str, Any] = {"concurrency_key": "user_1", "max_concurrency": 2}


@pytest.fixture(autouse=True)
def types(own_types: None) -> None:
    """Types with limits."""

    @handler("limits.two", concurrency=2)
    def two() -> None: ...

    @handler("limits.rated", rate="3/h")
    def rated() -> None: ...

    @handler("limits.free")
    def free() -> None: ...


@pytest.fixture
def queue() -> str:
    return served_queue()


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


def out(queue: str) -> int:
    return Task.objects.filter(queue=queue, state="dispatched").count()


def shift_clock(bench: Dispatcher, queue: str, seconds: float) -> None:
    """Move the database's clock; the leader and a worker of the queue are there at that time."""
    bench.connection.execute(f"SET taskmill.clock_offset = '{seconds} seconds'")
    with connection.cursor() as cursor:
        cursor.execute(f"SET taskmill.clock_offset = '{seconds} seconds'")
    make_worker(queue, slots=20)
    bench.take(lease_seconds=1e7)


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET taskmill.clock_offset")


def rounds(bench: Dispatcher, number: int = 3) -> int:
    """Run rounds that unblock each, and give how many tasks left."""
    total = 0
    for _ in range(number):
        bench.work._unblocking.forget()
        total += bench.round().counts["dispatched"]
    return total


def test_a_declared_limit_of_a_type_holds_for_all_tenants(bench: Dispatcher, queue: str) -> None:
    tasks = [make_task(queue=queue, type="limits.two") for _ in range(5)]
    counts = bench.round().counts
    assert (counts["dispatched"], counts["parked"]) == (2, 3)
    assert [task_column(one, "blocked_by") for one in tasks[2:]] == ["slots/type/0/limits.two"] * 3
    event = Event.objects.get(task_id=tasks[2], type="task.blocked")
    assert event.data == {"reason": "concurrency_limit", "type": "limits.two"}
    succeed(tasks[0])
    assert rounds(bench) == 1
    assert task_column(tasks[2], "blocked_by") is None


def test_the_limit_of_a_type_is_changed_and_lifted_live(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    caller = Caller(tenant_id=tenant.id, actor="api:tests")
    for _ in range(9):
        make_task(tenant, queue=queue, type="limits.two")
    assert rounds(bench) == 2
    change_type_limit(caller=caller, task_type="limits.two", columns={"concurrency": 4})
    assert rounds(bench) == 2
    change_type_limit(caller=caller, task_type="limits.two", columns={"concurrency": 1})
    assert rounds(bench) == 0
    change_type_limit(caller=caller, task_type="limits.two", columns={"concurrency": 1_000_000})
    assert rounds(bench) == 5


def test_what_no_handler_declares_any_more_limits_nothing(
    bench: Dispatcher, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        make_task(queue=queue, type="limits.two")
    assert rounds(bench) == 2
    monkeypatch.setattr(registry, "_handlers", {})
    bench.work.rest(None)
    assert rounds(bench) == 2
    assert Limit.objects.get(of="type", name="limits.two").declared_concurrency is None


def test_a_pinned_key_overrides_what_submissions_say(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    caller = Caller(tenant_id=tenant.id, actor="api:tests")
    change_key_limit(caller=caller, key="user_1", columns={"concurrency": 1})
    for _ in range(5):
        make_task(tenant, queue=queue, **KEY)
    theirs = make_tenant()
    others = [make_task(theirs, queue=queue, **KEY) for _ in range(2)]
    assert rounds(bench) == 3
    assert {task_state(one) for one in others} == {"dispatched"}
    change_key_limit(caller=caller, key="user_1", columns={"concurrency": 3})
    assert rounds(bench) == 2
    change_key_limit(caller=caller, key="user_1", columns={"concurrency": None})
    assert rounds(bench) == 0


def test_a_task_that_waits_for_one_rule_holds_no_slot_of_another(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    holders = [make_task(tenant, queue=queue, type="limits.two") for _ in range(2)]
    assert rounds(bench) == 2
    both = [make_task(tenant, queue=queue, type="limits.two", **KEY) for _ in range(3)]
    key_only = [make_task(tenant, queue=queue, type="limits.free", **KEY) for _ in range(2)]
    assert rounds(bench) == 2
    assert {task_state(one) for one in key_only} == {"dispatched"}
    assert {task_column(one, "blocked_by") for one in both} == {
        "slots/type/0/limits.two",
        f"slots/key/{tenant.id}/user_1",
    } or {task_column(one, "blocked_by") for one in both} == {"slots/type/0/limits.two"}
    succeed(holders[0])
    assert rounds(bench) == 0, "the key is full"
    succeed(key_only[0])
    assert rounds(bench) == 1
    succeed(holders[1])
    succeed(key_only[1])
    assert rounds(bench) == 1


def test_a_rate_of_a_type_parks_until_a_token_is_back_and_survives_its_dispatcher(
    bench: Dispatcher, queue: str
) -> None:
    tasks = [make_task(queue=queue, type="limits.rated") for _ in range(7)]
    assert rounds(bench) == 3
    assert task_column(tasks[3], "blocked_by") == "rate/type/0/limits.rated"
    for one in tasks[:3]:
        succeed(one)
    assert bench.take(lease_seconds=0.001)
    with dispatcher() as successor:
        wait_for(successor.take, seconds=5)
        assert rounds(successor) == 0, "a restart does not burst"
        shift_clock(successor, queue, 3500)
        assert rounds(successor) == 0
        shift_clock(successor, queue, 3700)
        assert rounds(successor) == 3, "nor does it stall"


def test_a_rate_of_a_key_is_pinned_live(bench: Dispatcher, queue: str, tenant: Tenant) -> None:
    caller = Caller(tenant_id=tenant.id, actor="api:tests")
    change_key_limit(caller=caller, key="user_1", columns={"rate": "1/h"})
    tasks = [make_task(tenant, queue=queue, **KEY) for _ in range(2)]
    assert rounds(bench) == 1
    assert task_column(tasks[1], "blocked_by") == f"rate/key/{tenant.id}/user_1"
    change_key_limit(caller=caller, key="user_1", columns={"rate": None})
    assert rounds(bench) == 1


def test_a_rate_of_a_queue_narrows_its_room_and_parks_nothing(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    caller = Caller(tenant_id=tenant.id, actor="api:tests")
    tasks = [make_task(tenant, queue=queue) for _ in range(6)]
    change_queue(caller=caller, name=queue, columns={"rate": "4/h"})
    assert rounds(bench) == 4
    assert {task_state(one) for one in tasks[4:]} == {"queued"}
    change_queue(caller=caller, name=queue, columns={"rate": "5/h"})
    assert rounds(bench) == 1
    assert sum(count for _, _, count in Queue.objects.get(name=queue).spent) == 5


def test_a_clock_of_the_database_that_is_set_back_does_not_stall_a_rate(
    bench: Dispatcher, queue: str
) -> None:
    shift_clock(bench, queue, 86_400)
    for _ in range(3):
        make_task(queue=queue, type="limits.rated")
    assert rounds(bench) == 3
    shift_clock(bench, queue, 0)
    for _ in range(3):
        make_task(queue=queue, type="limits.rated")
    assert rounds(bench) == 0
    shift_clock(bench, queue, 3700)
    assert rounds(bench) == 3


def test_cancel_newest_cancels_the_one_that_finds_its_key_full(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    tasks = [
        make_task(tenant, queue=queue, concurrency_strategy="cancel_newest", **KEY)
        for _ in range(4)
    ]
    assert rounds(bench) == 2
    assert [task_state(one) for one in tasks] == ["dispatched"] * 2 + ["cancelled"] * 2
    row = Task.objects.get(id=tasks[3])
    assert row.cancel_reason == "concurrency_strategy cancel_newest: user_1 is full"
    assert row.cancel_requested_by == "taskmill"


def test_cancel_newest_parks_a_task_that_was_begun_before(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    begun = make_task(tenant, queue=queue, concurrency_strategy="cancel_newest", **KEY)
    Task.objects.filter(id=begun).update(attempt=1, epoch=1, priority=-1)
    for _ in range(2):
        make_task(tenant, queue=queue, **KEY)
    assert rounds(bench) == 2
    assert task_state(begun) == "blocked"


def test_keep_latest_keeps_the_newest_that_waits_alone(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    def submit() -> uuid.UUID:
        return make_task(tenant, queue=queue, concurrency_strategy="keep_latest", **KEY)

    tasks = [submit() for _ in range(5)]
    assert rounds(bench) == 2
    assert [task_state(one) for one in tasks[2:]] == ["cancelled", "cancelled", "blocked"]
    tasks.append(submit())
    rounds(bench)
    assert [task_state(one) for one in tasks[4:]] == ["cancelled", "blocked"]
    assert "keep_latest" in task_column(tasks[4], "cancel_reason")
    succeed(tasks[0])
    assert rounds(bench) == 1
    assert task_state(tasks[5]) == "dispatched"


def test_cancel_running_asks_as_many_holders_to_stop_as_wait(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    first, second = (make_task(tenant, queue=queue, **KEY) for _ in range(2))
    assert rounds(bench) == 2
    claim(first)
    newcomer = make_task(tenant, queue=queue, concurrency_strategy="cancel_running", **KEY)
    rounds(bench, 1)
    assert (task_state(first), task_state(second)) == ("cancelling", "dispatched")
    assert task_state(newcomer) == "blocked"
    with connection.cursor() as cursor:
        assert transitions.confirm_cancel(cursor, first, epoch=1, how="cooperative")
    assert rounds(bench) == 1
    assert task_state(newcomer) == "dispatched"


def test_hints_leave_in_order_whether_or_not_they_have_rules(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    tasks = [
        make_task(tenant, queue=queue, priority=9 - number, **(KEY if number % 2 else {}))
        for number in range(4)
    ]
    bench.round()
    assert [hint.task_id for hint in read_hints(queue)] == [str(one) for one in tasks]


def test_a_free_slot_lets_one_task_go_however_often_it_is_looked_for(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    tasks = [make_task(tenant, queue=queue, **KEY) for _ in range(5)]
    assert rounds(bench) == 2
    succeed(tasks[0])
    with connection.cursor() as cursor:
        assert [transitions.unblock(cursor).count for _ in range(3)] == [1, 0, 0]
    assert rounds(bench) == 1


def test_what_a_key_has_parked_follows_the_end_of_its_holder_and_not_a_tour_of_all_keys(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    one: dict[str, Any] = {"concurrency_key": "one", "max_concurrency": 1}
    park_many(tenant, keys=900)
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_now()")
        since = cursor.fetchone()[0]
        holder, follower = (make_task(tenant, queue=queue, **one) for _ in range(2))
        assert rounds(bench) == 1
        assert task_state(follower) == "blocked"
        assert transitions.unblock_freed(cursor, since=since).count == 0
        succeed(holder)
        freed = transitions.unblock_freed(cursor, since=since)
        assert (freed.count, task_state(follower)) == (1, "queued")
        assert freed.now is not None
        assert transitions.unblock_freed(cursor, since=freed.now).count == 0
        cursor.execute("ANALYZE taskmill_task")
        values = {"since": since, "ended": 1000, "changed": 1000}
        cursor.execute(f"EXPLAIN {unblocking._FREED}", values)
        plan = " ".join(row[0] for row in cursor.fetchall())
    assert "task_done_at" in plan
    assert "Seq Scan on taskmill_task" not in plan


def test_what_a_limit_holds_follows_its_change_and_not_a_tour_of_all_keys(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    one: dict[str, Any] = {"concurrency_key": "one", "max_concurrency": 1}
    _, follower = (make_task(tenant, queue=queue, **one) for _ in range(2))
    rated = [make_task(tenant, queue=queue, type="limits.rated") for _ in range(4)]
    assert rounds(bench) == 4
    caller = Caller(tenant_id=tenant.pk, actor="tests")
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_now()")
        since = cursor.fetchone()[0]
        assert transitions.unblock_freed(cursor, since=since).count == 0
        change_key_limit(caller=caller, key="one", columns={"concurrency": 2})
        change_type_limit(caller=caller, task_type="limits.rated", columns={"rate": "9/h"})
        assert transitions.unblock_freed(cursor, since=since).count == 2
    assert (task_state(follower), task_state(rated[-1])) == ("queued", "queued")


def test_a_new_leader_knows_what_ended_in_the_last_minute(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    one: dict[str, Any] = {"concurrency_key": "one", "max_concurrency": 1}
    holder, _ = (make_task(tenant, queue=queue, **one) for _ in range(2))
    assert rounds(bench) == 1
    succeed(holder)
    with connection.cursor() as cursor:
        assert transitions.unblock_freed(cursor, since=None).count == 1


def test_what_a_type_has_parked_follows_the_end_of_one_of_it(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    tasks = [make_task(tenant, type="limits.two", queue=queue) for _ in range(4)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_now()")
        since = cursor.fetchone()[0]
        assert rounds(bench) == 2
        succeed(tasks[0])
        assert transitions.unblock_freed(cursor, since=since).count == 1


def test_a_task_of_a_queue_without_workers_does_not_keep_a_rule_from_others(
    bench: Dispatcher, queue: str, tenant: Tenant
) -> None:
    unserved = new_queue()
    make_worker(unserved)
    one: dict[str, Any] = {"concurrency_key": "one", "max_concurrency": 1}
    holder = make_task(tenant, queue=queue, **one)
    assert rounds(bench) == 1
    there = make_task(tenant, queue=unserved, **one)
    assert rounds(bench) == 0
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM taskmill_worker WHERE %s = ANY(queues)", [unserved])
    succeed(holder)
    assert rounds(bench) == 0
    assert (task_state(there), task_column(there, "blocked_by")) == ("queued", None)
    second, third = (make_task(tenant, queue=queue, **one) for _ in range(2))
    assert rounds(bench) == 1
    succeed(second)
    assert rounds(bench) == 1
    assert (task_state(there), task_state(third)) == ("queued", "dispatched")


MANY_KEYS = 10_000


def test_ten_thousand_keys_that_wait_cost_a_bounded_look_and_each_gets_its_turn(
    tenant: Tenant,
) -> None:
    park_many(tenant, keys=MANY_KEYS, each=3, with_room=(7, 9999))
    with connection.cursor() as cursor:
        place, looks, freed, longest = transitions.START, 0, 0, 0.0
        while looks == 0 or place != transitions.START:
            began = monotonic()
            found = transitions.unblock(cursor, after=place)
            longest = max(longest, monotonic() - began)
            place, looks, freed = found.place, looks + 1, freed + found.count
        assert freed == 2
        assert looks == -(-MANY_KEYS // 300) + (MANY_KEYS % 300 == 0)
        print(f"{looks} looks at {MANY_KEYS} keys, the longest {longest * 1000:.1f} ms")
        place = ("slots/key", "")
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {unblocking._BLOCKED}",
            {"rule": place[0], "queue": place[1], "most": unblocking.RULES_AT_A_TIME},
        )
        plan = cursor.fetchone()[0]
    text = plan if isinstance(plan, str) else json.dumps(plan)
    assert "task_blocked" in text
    assert "Seq Scan" not in text
    (found_plan,) = json.loads(text)
    buffers = found_plan["Plan"]["Shared Hit Blocks"] + found_plan["Plan"]["Shared Read Blocks"]
    assert buffers <= 10 * unblocking.RULES_AT_A_TIME, buffers
