"""A pause against everything that moves: dispatches under way, a worker at full speed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from tasks_app import leadership, transitions
from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.dispatch.loop import DispatchWork
from tasks_app.dispatch.publish import make_publisher
from tasks_app.models import Queue, Task
from tasks_app.services.caller import Caller
from tasks_app.services.queues import pause_queue, resume_queue
from tests.engines import new_queue, running_loop
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api
from tests.processes import Process, running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

TASKS = 6000
"""Some hundreds end between two looks of a test."""


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    with django_db_blocker.unblock(), running_worker() as process:
        yield process


def paused_in_thread(caller: Caller, queue: str) -> bool:
    try:
        return pause_queue(caller=caller, name=queue)
    finally:
        connections.close_all()


def is_blocked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])


def test_a_dispatch_under_way_when_the_pause_comes_is_awaited_and_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks_app.services.queues.DISPATCH_WAIT_SECONDS", 20.0)
    queue, tenant = new_queue(), make_tenant()
    caller = Caller(tenant_id=tenant.id, actor="api:tests")
    tasks = [make_task(tenant, queue=queue) for _ in range(5)]
    with connect("test") as loop, ThreadPoolExecutor(1) as pool:
        lead = leadership.hold(loop.cursor(), loop="dispatch", holder="h", lease_seconds=60)
        assert lead is not None
        with loop.transaction():
            lead.fence(loop.cursor())
            taken, _ = transitions.dispatch(loop.cursor(), queue=queue, room=3)
            pause = pool.submit(paused_in_thread, caller, queue)
            wait_for(is_blocked, seconds=10)
            assert Queue.objects.get(name=queue).is_paused
            assert not pause.done()
        assert pause.result(20)
        assert len(taken) == 3
        assert set(Task.objects.filter(id__in=tasks).values_list("state", flat=True)) == {"queued"}
        with loop.transaction():
            lead.fence(loop.cursor())
            assert transitions.dispatch(loop.cursor(), queue=queue, room=3) == ([], 0)


def test_a_pause_at_full_speed_stops_starts_within_a_second_and_loses_nothing(
    worker: Process,
) -> None:
    tenant = make_tenant()
    api = Api(make_key(tenant))
    for _ in range(TASKS // 1000):
        items = [{"type": "demo.echo", "payload": {"n": number}} for number in range(1000)]
        assert api.post("/tasks/bulk", {"items": items}).status_code == 202
    with running_loop(DispatchWork(make_publisher(), conf()), conf()):
        mine = Task.objects.filter(tenant=tenant)
        for share in (50, 300):
            wait_for(lambda share=share: mine.filter(state="success").count() >= share)  # type: ignore[misc]  # bound by its default
            answer = api.post("/queues/default/pause", {"reason": "race"})
            assert answer.json()["is_paused"], answer.content
            wait_for(lambda: not mine.filter(state__in=["running", "dispatched"]).exists())
            since = Queue.objects.get(name="default").paused_at
            started = mine.filter(started_at__gt=since + timedelta(seconds=1))
            waits = mine.filter(state="queued").count()
            assert waits > 0
            threading.Event().wait(0.5)
            assert (started.count(), mine.filter(state="queued").count()) == (0, waits)
            assert api.post("/queues/default/resume").json()["is_paused"] is False
        wait_for(lambda: mine.filter(state="success").count() == TASKS, seconds=60)
        assert set(mine.values_list("attempt", "sweeps")) == {(1, 0)}


def test_a_queue_used_for_the_first_time_reaches_a_running_worker(worker: Process) -> None:
    queue, tenant = new_queue(), make_tenant()
    with running_loop(DispatchWork(make_publisher(), conf()), conf()):
        task_id = make_task(tenant, queue=queue, type="demo.echo")
        wait_for(lambda: Task.objects.get(id=task_id).state == "success", seconds=15)
    resume_queue(caller=Caller(tenant_id=tenant.id, actor="tests"), name=queue)
