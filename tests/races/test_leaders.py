"""Who leads a loop: one at a time, whatever dies, freezes or stops."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from django.db import connection

from tasks_app import leadership
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.dispatch.bundles import Bundle
from tasks_app.dispatch.loop import DispatchWork
from tasks_app.dispatch.publish import Published
from tasks_app.leadership import LeadershipLost
from tasks_app.models import Event, Leader, Task
from tests.engines import new_queue, read_hints, running_loop, start_engine
from tests.factories import make_task, make_tenant, make_worker, task_state
from tests.processes import Process, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def hold(holder: str, lease_seconds: float = 60.0) -> leadership.Leadership | None:
    with connect("test") as one:
        return leadership.hold(
            one.cursor(), loop="dispatch", holder=holder, lease_seconds=lease_seconds
        )


def end_lease() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_leader SET expires_at = now() - interval '1 s'")


def test_of_many_contenders_one_leads() -> None:
    contenders = 8
    barrier = threading.Barrier(contenders)
    won: list[str] = []

    def contend(name: str) -> None:
        with connect("test") as one:
            barrier.wait(10)
            if leadership.hold(one.cursor(), loop="dispatch", holder=name, lease_seconds=60):
                won.append(name)

    for round_number in range(5):
        names = [f"{round_number}-{number}" for number in range(contenders)]
        threads = [threading.Thread(target=contend, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(won) == round_number + 1
        assert Leader.objects.get().token == round_number + 1
        end_lease()


def test_a_token_grows_with_every_takeover_and_stays_with_a_renewal() -> None:
    first = hold("one")
    assert first is not None
    assert hold("one") == first
    assert hold("two") is None
    end_lease()
    second = hold("two")
    assert second is not None
    assert second.token == first.token + 1
    assert hold("one") is None


def test_a_fence_holds_the_lead_until_its_transaction_ends() -> None:
    lead = hold("one")
    assert lead is not None
    with connect("test") as leader, connect("test") as rival:
        rival.execute("SET lock_timeout = '200ms'")
        with leader.transaction():
            lead.fence(leader.cursor())
            end_lease_would_wait = pytest.raises(psycopg.errors.LockNotAvailable)
            with end_lease_would_wait:
                leadership.hold(rival.cursor(), loop="dispatch", holder="two", lease_seconds=60)
        end_lease()
        assert leadership.hold(rival.cursor(), loop="dispatch", holder="two", lease_seconds=60)
        with pytest.raises(LeadershipLost), leader.transaction():
            lead.fence(leader.cursor())


class CountingPublisher:
    """Counts hints in memory: what is proven here happens before the broker."""

    def __init__(self, published: Counter[tuple[uuid.UUID, int]]) -> None:
        self.published = published

    def open(self) -> None:
        pass

    def publish(self, batch: Sequence[Bundle]) -> Published:
        tasks = [task for bundle in batch for task in bundle.tasks]
        self.published.update((task.id, task.dispatch_seq) for task in tasks)
        return Published(tasks, [])

    def close(self) -> None:
        pass


def test_two_dispatchers_at_once_never_dispatch_a_task_twice() -> None:
    queue = new_queue()
    make_worker(queue, slots=100)
    published: Counter[tuple[uuid.UUID, int]] = Counter()
    settings = conf()
    tenant = make_tenant()
    tasks = [make_task(tenant, queue=queue) for _ in range(120)]
    keyed = [
        make_task(tenant, queue=queue, concurrency_key="k", max_concurrency=3) for _ in range(20)
    ]
    works = [DispatchWork(CountingPublisher(published), settings) for _ in range(2)]
    with running_loop(works[0], settings), running_loop(works[1], settings):

        def shaken() -> bool:
            end_lease()
            is_done = not Task.objects.filter(id__in=tasks, state="queued").exists()
            return is_done and Leader.objects.filter(loop="dispatch", token__gt=1).exists()

        wait_for(shaken, seconds=30)
        wait_for(lambda: not Task.objects.filter(state="queued").exists(), seconds=30)
    assert Task.objects.filter(id__in=keyed, state="dispatched").count() == 3
    assert set(Task.objects.filter(id__in=tasks).values_list("dispatch_seq", flat=True)) == {1}
    assert Event.objects.filter(type="task.dispatched").count() == len(tasks) + 3
    assert set(published.values()) == {1}


def leader_of(loop: str) -> str:
    row = Leader.objects.filter(loop=loop, holder__gt="").first()
    return row.holder if row else ""


def is_led_by(engine: Process, loop: str = "dispatch") -> bool:
    assert engine.popen.poll() is None, engine.output()[-3000:]
    return f":{engine.pid}:" in leader_of(loop)


def check_that_tasks_move() -> None:
    queue = new_queue()
    make_worker(queue, slots=10)
    task_id = make_task(queue=queue)
    assert [hint.task_id for hint in read_hints(queue, wait=15, limit=1)] == [str(task_id)]
    assert task_state(task_id) == "dispatched"


def test_a_killed_engine_is_replaced_when_its_lease_is_over_and_a_stopped_one_at_once(
    valkey: Any,
) -> None:
    variables = {"TASKMILL_LEADER_LEASE_SECONDS": "2"}
    slow = {"TASKMILL_LEADER_LEASE_SECONDS": "120"}
    first = start_engine(**variables)
    engines = [first]
    try:
        wait_for(lambda: is_led_by(first) and is_led_by(first, "maintain"), seconds=30)
        second = start_engine(**slow)
        engines.append(second)
        wait_for(lambda: "the engine runs" in second.output(), seconds=30)
        check_that_tasks_move()
        killed = monotonic()
        first.kill()
        wait_for(lambda: is_led_by(second) and is_led_by(second, "maintain"), seconds=10)
        print(f"takeover after kill -9 of a leader with a 2 s lease: {monotonic() - killed:.2f} s")
        check_that_tasks_move()

        third = start_engine(**slow)
        engines.append(third)
        wait_for(lambda: "the engine runs" in third.output(), seconds=30)
        stopped = monotonic()
        assert second.stop() == 0
        wait_for(lambda: is_led_by(third) and is_led_by(third, "maintain"), seconds=10)
        print(f"takeover after SIGTERM: {monotonic() - stopped:.2f} s")
        check_that_tasks_move()
    finally:
        for engine in engines:
            if engine.popen.poll() is None:
                engine.kill()


def test_the_engine_refuses_a_loop_that_it_does_not_know() -> None:
    engine = start_engine("--only", "dispatch,nonsense")
    assert engine.popen.wait(30) == 1
    assert "dispatch, maintain" in engine.output()
