"""The dispatch loop on PostgreSQL and Valkey: order, window, limits, fence, bell, lost broker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app.conf import conf
from tasks_app.dispatch import loop
from tasks_app.dispatch.loop import DispatchWork
from tasks_app.dispatch.publish import make_publisher
from tasks_app.dispatch.valkey import ValkeyPublisher
from tasks_app.leadership import LeadershipLost
from tasks_app.loops import Stop
from tasks_app.management.servers import Valkey
from tasks_app.models import Event, Task
from tests.engines import Dispatcher, dispatcher, new_queue, read_hints, running_loop
from tests.environment import RUN_DIRECTORY
from tests.factories import claim, make_task, make_tenant, make_worker, task_column, task_state
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue() -> str:
    return new_queue()


def finish(task_id: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET state = 'success', finished_at = now(), lease_owner = NULL,"
            " lease_expires_at = NULL WHERE id = %s",
            [task_id],
        )


def test_events_of_one_round_are_numbered_in_the_order_of_dispatch(
    bench: Dispatcher, queue: str
) -> None:
    make_worker(queue, slots=40)
    tasks = [make_task(queue=queue, priority=number * 7 % 40) for number in range(40)]
    bench.round()
    events = Event.objects.filter(task_id__in=tasks, type="task.dispatched").order_by("id")
    wanted = Task.objects.filter(id__in=tasks).order_by("-priority")
    assert [one.task_id for one in events] == [one.id for one in wanted]


def test_hints_leave_in_order_of_priority_then_time_then_id(bench: Dispatcher, queue: str) -> None:
    past = datetime.now(tz=UTC) - timedelta(hours=1)
    make_worker(queue, slots=10)
    tasks = [
        make_task(queue=queue, priority=0),
        make_task(queue=queue, priority=5),
        make_task(queue=queue, priority=-5),
        make_task(queue=queue, priority=5),
        make_task(queue=queue, priority=0),
    ]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_task SET run_at = %s WHERE id = %s", [past, tasks[4]])
    bench.round()
    expected = [tasks[1], tasks[3], tasks[4], tasks[0], tasks[2]]
    assert [hint.task_id for hint in read_hints(queue)] == [str(one) for one in expected]


def test_a_hint_is_a_celery_message_of_protocol_2(bench: Dispatcher, queue: str) -> None:
    make_worker(queue)
    task_id = make_task(queue=queue, type="tests.echo")
    bench.round()
    (hint,) = read_hints(queue)
    assert (hint.task_id, hint.dispatch_seq, hint.type) == (str(task_id), 1, "tests.echo")
    assert hint.headers["root_id"] == str(task_id)
    assert hint.headers["timelimit"] == [None, None]
    assert hint.headers["ignore_result"] is True


def test_no_more_leave_than_the_window_holds(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=2)
    tenant = make_tenant()
    for _ in range(30):
        make_task(tenant, queue=queue)
    first = bench.round()
    assert first.counts["dispatched"] == conf().window_least
    assert first.wait_seconds < 0.05
    second = bench.round()
    assert second.counts["dispatched"] == 0
    assert Task.objects.filter(queue=queue, state="queued").count() == 30 - conf().window_least
    for hint in read_hints(queue, limit=3):
        claim(hint.task_id)
    assert bench.round().counts["dispatched"] >= 3


def test_nothing_leaves_for_a_queue_that_no_live_worker_serves(
    bench: Dispatcher, queue: str
) -> None:
    make_task(queue=queue)
    assert bench.round().counts["dispatched"] == 0
    worker_id = make_worker(queue)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_worker SET is_stopping = true WHERE id = %s", [worker_id])
    assert bench.round().counts["dispatched"] == 0
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_worker SET is_stopping = false,"
            " last_seen_at = now() - make_interval(secs => %s) WHERE id = %s",
            [conf().lease_seconds + 1, worker_id],
        )
    assert bench.round().counts["dispatched"] == 0
    make_worker(queue)
    assert bench.round().counts["dispatched"] == 1


class Rests(Stop):
    """A stop that notes the rests between rounds instead of taking them."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return self.is_set()


def test_submissions_that_nobody_serves_do_not_cost_a_look_each(
    bench: Dispatcher, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "EMPTY_PACE_SECONDS", 60.0)
    bench.stop.close()
    bench.stop = rests = Rests()
    bench.is_rung = True
    make_task(queue=queue)
    bench.round()
    assert rests.seconds == []
    make_task(queue=queue)
    seconds = bench.round().wait_seconds
    assert len(rests.seconds) == 1
    assert rests.seconds[0] <= seconds <= conf().dispatch_poll_seconds


def test_a_full_key_parks_its_tasks_and_a_finish_frees_them(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=10)
    tenant = make_tenant()
    tasks = [
        make_task(tenant, queue=queue, concurrency_key="user_1", max_concurrency=2)
        for _ in range(5)
    ]
    counts = bench.round().counts
    assert (counts["dispatched"], counts["parked"]) == (2, 3)
    claim(tasks[0])
    finish(tasks[0])
    assert wait_for(lambda: bench.round().counts["dispatched"], seconds=5) == 1
    assert [task_state(one) for one in tasks[1:]].count("dispatched") == 2


def test_a_former_leader_that_thaws_changes_nothing(bench: Dispatcher, queue: str) -> None:
    make_worker(queue, slots=10)
    assert bench.take()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_leader SET expires_at = now() - interval '1 s'")
    with dispatcher() as successor:
        assert successor.take()
        limit = {"concurrency_key": "k", "max_concurrency": 1}
        task_id = make_task(queue=queue, **limit)
        parked = make_task(queue=queue, state="blocked", **limit)
        before = Event.objects.count()
        with pytest.raises(LeadershipLost):
            bench.round()
        assert (task_state(task_id), task_state(parked)) == ("queued", "blocked")
        assert Event.objects.count() == before
        assert read_hints(queue, wait=0.05) == []
        successor.round()
        assert wait_for(lambda: task_state(task_id) == "dispatched", seconds=5)


def test_confirmed_hints_are_stamped(bench: Dispatcher, queue: str) -> None:
    make_worker(queue)
    task_id = make_task(queue=queue)
    bench.round()
    wait_for(lambda: bench.round() and task_column(task_id, "published_at"), seconds=5)


def test_a_submission_rings_the_dispatcher(valkey: Any, queue: str) -> None:
    settings = replace(conf(), dispatch_poll_seconds=60.0, leader_lease_seconds=300.0)
    make_worker(queue, slots=10)
    with running_loop(DispatchWork(make_publisher(), settings), settings):
        for _ in range(3):
            task_id = make_task(queue=queue)
            assert [hint.task_id for hint in read_hints(queue, wait=10, limit=1)] == [str(task_id)]


def test_tasks_wait_while_the_broker_is_away_and_leave_when_it_returns(queue: str) -> None:
    home = RUN_DIRECTORY / "away"
    server = Valkey(home / "data", home / "v.sock", log=home / "log")
    url = f"redis+socket://{home / 'v.sock'}"
    server.start()
    settings = conf()
    try:
        make_worker(queue, slots=10)
        work = DispatchWork(ValkeyPublisher([url], timeout_seconds=2), settings)
        with running_loop(work, settings):
            first = make_task(queue=queue)
            assert [hint.task_id for hint in read_hints(queue, url=url, wait=10, limit=1)]
            finish(first)
            server.stop()
            tasks = [make_task(queue=queue) for _ in range(5)]
            wait_for(lambda: work._publisher._producer is None, seconds=10)
            wait_for(lambda: {task_state(one) for one in tasks} == {"queued"}, seconds=10)
            server.start()
            wait_for(
                lambda: {task_state(one) for one in tasks} == {"dispatched"},
                seconds=10,
                reason="the tasks did not leave when the broker returned",
            )
            hints = {hint.task_id: hint for hint in read_hints(queue, url=url)}
            assert set(hints) == {str(one) for one in tasks}
            for one in tasks:
                assert hints[str(one)].dispatch_seq == task_column(one, "dispatch_seq") <= 2
    finally:
        server.stop()
