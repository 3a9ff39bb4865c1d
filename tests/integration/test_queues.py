"""Queues in dispatch: first use, pause, order, limits; the statements and plans that it costs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app.conf import conf
from tasks_app.models import Queue, QueueOrder, Task
from tasks_app.services.caller import Caller
from tasks_app.services.queues import change_queue, pause_queue, resume_queue
from tasks_app.transitions import deciding
from tests.attempts import succeed_one
from tests.engines import Dispatcher, dispatcher, new_queue, read_hints
from tests.factories import claim, make_task, make_tenant, make_worker, task_state
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue() -> str:
    return new_queue()


@pytest.fixture
def caller() -> Caller:
    return Caller(tenant_id=make_tenant().id, actor="api:tests")


def sent(queue: str) -> list[str]:
    return [hint.task_id for hint in read_hints(queue)]


def test_a_queue_has_its_row_after_its_first_use_though_no_worker_serves_it(
    bench: Dispatcher, queue: str
) -> None:
    make_task(queue=queue)
    bench.round()
    row = Queue.objects.get(name=queue)
    assert (row.order, row.is_paused, row.concurrency) == ("priority", False, None)
    make_worker(queue)
    assert bench.round().counts["dispatched"] == 1


def test_a_paused_queue_gives_nothing_and_its_hints_are_taken_back(
    bench: Dispatcher, queue: str, caller: Caller
) -> None:
    make_worker(queue, slots=1)
    tenant = make_tenant()
    running, *others = [make_task(tenant, queue=queue) for _ in range(12)]
    bench.round()
    claim(running)
    assert pause_queue(caller=caller, name=queue, reason="stocktaking")
    assert not pause_queue(caller=caller, name=queue, reason="again")
    row = Queue.objects.get(name=queue)
    assert (row.paused_by, row.pause_reason) == ("api:tests", "stocktaking")
    assert {task_state(one) for one in others} == {"queued"}
    for _ in range(3):
        assert bench.round().counts["dispatched"] == 0
    assert task_state(running) == "running"
    stale = read_hints(queue)
    assert resume_queue(caller=caller, name=queue)
    assert not resume_queue(caller=caller, name=queue)
    assert bench.round().counts["dispatched"] == conf().window_least
    assert {hint.dispatch_seq for hint in stale} == {1}
    assert {hint.dispatch_seq for hint in read_hints(queue)} == {1, 2}


def test_a_pause_outlives_the_dispatcher(bench: Dispatcher, queue: str, caller: Caller) -> None:
    make_worker(queue)
    task_id = make_task(queue=queue)
    pause_queue(caller=caller, name=queue)
    assert bench.take(lease_seconds=0.001)
    with dispatcher() as successor:
        wait_for(successor.take, seconds=5)
        assert successor.round().counts["dispatched"] == 0
        resume_queue(caller=caller, name=queue)
        assert successor.round().counts["dispatched"] == 1
    assert task_state(task_id) == "dispatched"


def test_hints_that_a_pause_left_out_are_taken_back_by_the_next_round(
    bench: Dispatcher, queue: str
) -> None:
    task_id = make_task(queue=queue, state="dispatched")
    Queue.objects.create(name=queue, is_paused=True, paused_at=datetime.now(tz=UTC))
    assert bench.round().counts["taken_back"] == 1
    assert task_state(task_id) == "queued"


@pytest.mark.parametrize("order", ["priority", "oldest", "newest"])
def test_tasks_leave_in_the_order_of_their_queue(bench: Dispatcher, queue: str, order: str) -> None:
    make_worker(queue, slots=1)
    Queue.objects.create(name=queue, order=order, window_least=4, window_most=4)
    tasks = [make_task(queue=queue, priority=number * 7 % 5) for number in range(10)]
    past = datetime.now(tz=UTC) - timedelta(hours=1)
    for number, task_id in enumerate(tasks):
        Task.objects.filter(id=task_id).update(run_at=past + timedelta(minutes=number))
    by = {"priority": "-priority", "oldest": "run_at", "newest": "-run_at"}[order]
    wanted = [str(one.id) for one in Task.objects.filter(queue=queue).order_by(by, "run_at")][:4]
    assert bench.round().counts["dispatched"] == 4
    assert sent(queue) == wanted


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_task_that_may_not_start_yet_does_not_leave_in_an_order_by_time(
    bench: Dispatcher, queue: str, order: str
) -> None:
    make_worker(queue)
    Queue.objects.create(name=queue, order=order)
    early, due = make_task(queue=queue), make_task(queue=queue, priority=-3)
    later = datetime.now(tz=UTC) + timedelta(hours=1)
    Task.objects.filter(id=early).update(run_at=later)
    assert bench.round().counts["dispatched"] == 1
    assert (task_state(early), task_state(due)) == ("queued", "dispatched")


def test_no_more_tasks_of_a_queue_are_out_or_run_than_its_limit(
    bench: Dispatcher, queue: str, caller: Caller
) -> None:
    make_worker(queue, slots=10)
    tasks = [make_task(queue=queue) for _ in range(8)]
    change_queue(caller=caller, name=queue, columns={"concurrency": 3})
    assert bench.round().counts["dispatched"] == 3
    claim(tasks[0])
    assert bench.round().counts["dispatched"] == 0
    change_queue(caller=caller, name=queue, columns={"concurrency": 5})
    assert bench.round().counts["dispatched"] == 2
    with connection.cursor() as cursor:
        assert succeed_one(cursor, tasks[0], epoch=1)
    assert bench.round().counts["dispatched"] == 1
    assert Task.objects.filter(queue=queue, state="dispatched").count() == 5


class Counting:
    """A connection whose statements are counted."""

    def __init__(self, connection_: Any) -> None:
        self._connection = connection_
        self.statements = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def cursor(self) -> Any:
        cursor, outer = self._connection.cursor(), self

        class Cursor:
            def __getattr__(self, name: str) -> Any:
                return getattr(cursor, name)

            def execute(self, *arguments: Any) -> Any:
                outer.statements += 1
                return cursor.execute(*arguments)

        return Cursor()


def test_a_round_takes_a_look_a_fence_and_one_statement_per_queue(
    bench: Dispatcher, queue: str
) -> None:
    make_worker(queue)
    make_task(queue=queue)
    bench.round()
    make_task(queue=queue)
    assert bench.take()
    bench.work._unblocking.at = bench.work._stamp_at = 1e18
    bench.connection = counting = Counting(bench.connection)  # type: ignore[assignment]  # a proxy
    assert bench.round().counts["dispatched"] == 1
    assert counting.statements == 3


ROWS = 20_000


@pytest.mark.parametrize("order", QueueOrder)
def test_each_order_picks_through_the_index_of_ready_tasks(order: QueueOrder) -> None:
    tenant = make_tenant()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_task (id, tenant_id, type, queue, priority, state, version,"
            " event_seq, payload, metadata, tags, progress, progress_message, max_retry, attempt,"
            " attempt_base, epoch, rescues, interrupts, sweeps, hand_backs, dispatch_seq,"
            " created_at, updated_at, run_at, queued_at, process_timeout, worker,"
            " cancel_requested_by, cancel_reason, traceparent, submitted_by)"
            " SELECT gen_random_uuid(), %s, 't', 'q-' || n %% 2, n %% 4, 'queued', 1, 1, '{}',"
            " '{}', '{}', 0, '', 3, 0, 0, 0, 0, 0, 0, 0, 0, now(), now(),"
            " now() - n * interval '1 s', now(), 60, '', '', '', '', ''"
            " FROM generate_series(1, %s) n",
            [tenant.id, ROWS],
        )
        cursor.execute("ANALYZE taskmill_task")
        cursor.execute("SET LOCAL jit = off")
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {deciding._PICK[order]}",
            {"queue": "q-1", "room": 10},
        )
        found = cursor.fetchone()[0]
    (plan,) = json.loads(found) if isinstance(found, str) else found
    text = json.dumps(plan)
    assert "task_ready" in text
    assert not re.search(r'"Seq Scan"[^}]*"Relation Name": "taskmill_task"', text)
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 1500
    waiting = rows_read(plan["Plan"], "task_ready")
    assert 0 < waiting <= 100, waiting


def rows_read(node: Any, index: str) -> float:
    """Give the rows that the scans of an index gave, loops multiplied."""
    mine = node["Actual Rows"] * node["Actual Loops"] if node.get("Index Name") == index else 0
    return mine + sum(rows_read(child, index) for child in node.get("Plans", ()))
