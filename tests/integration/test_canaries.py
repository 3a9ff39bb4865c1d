"""Canaries through each served queue: measured end to end, never piling up, in nobody's lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app.conf import conf
from tasks_app.dispatch.loop import make_work as make_dispatch
from tasks_app.maintenance.canary import SendCanaries
from tasks_app.maintenance.expire import ExpirePending
from tasks_app.maintenance.loop import MaintainWork, maintain_steps
from tasks_app.models import Queue, Task
from tasks_app.selectors.canaries import CANARY_TENANT, canaries_seen
from tasks_app.selectors.reporting import finished_between
from tests.engines import new_queue, running_loop
from tests.factories import drive, make_key, make_tenant, make_worker
from tests.integration.api_client import Api
from tests.integration.test_maintenance import Clock, run
from tests.integration.test_metrics import one, read
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
STEP = SendCanaries(interval_seconds=60)


@pytest.fixture
def queue() -> str:
    return new_queue()


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    yield found
    found.connection.close()


def of(queue: str) -> list[Task]:
    return list(Task.objects.filter(queue=queue, tenant__slug=CANARY_TENANT).order_by("id"))


def test_canaries_go_through_a_real_worker_and_their_delay_is_a_figure(valkey: Any) -> None:
    settings = replace(conf(), canary_seconds=0.2)

    def delay() -> float | None:
        return read().get(("taskmill_canary_delay_seconds", (("queue", "default"),)))

    with (
        running_loop(make_dispatch(), settings),
        running_loop(MaintainWork(maintain_steps(settings)), settings),
        running_worker(),
    ):
        wait_for(lambda: sum(one.state == "success" for one in of("default")) >= 3, seconds=60)
    assert (delay() or 0) > 0


def test_one_canary_at_a_time_waits_in_a_queue_however_long_it_stalls(
    queue: str, clock: Clock
) -> None:
    make_worker(queue)
    for at in range(0, 240, 60):
        run(STEP, clock.after(at))
    assert len(of(queue)) == 1
    for at in range(301, 1500, 60):
        run(ExpirePending(), clock.after(at))
        run(STEP, clock.after(at))
    states = [task.state for task in of(queue)]
    assert states[-1] == "queued"
    assert states[:-1] == ["timeout"] * len(states[:-1])
    assert len(states) <= 4


def test_a_paused_queue_and_one_without_any_worker_are_sent_none(queue: str, clock: Clock) -> None:
    make_worker(queue)
    Queue.objects.create(name=queue, is_paused=True, paused_at=datetime.now(tz=UTC))
    Queue.objects.create(name=f"{queue}-b")
    assert run(STEP, clock.after(0)).count == 0
    Queue.objects.update(is_paused=False, paused_at=None)
    assert run(STEP, clock.after(0)).count == 1
    assert [task.queue for task in Task.objects.all()] == [queue]


def test_a_queue_that_gives_nothing_back_falls_silent_until_it_does_and_a_paused_one_does_not(
    queue: str, clock: Clock
) -> None:
    make_worker(queue)
    run(STEP, clock.after(-400))
    assert 400 <= one(read(), "taskmill_canary_silent_seconds", queue=queue) < 500
    run(ExpirePending(), clock.after(-90))
    run(STEP, clock.after(-90))
    assert [task.state for task in of(queue)] == ["timeout", "queued"]
    found = read()
    assert 400 <= one(found, "taskmill_canary_silent_seconds", queue=queue) < 500
    assert ("taskmill_canary_delay_seconds", (("queue", queue),)) not in found
    Queue.objects.create(name=queue, is_paused=True, paused_at=datetime.now(tz=UTC))
    assert canaries_seen() == []
    Queue.objects.update(is_paused=False, paused_at=None)
    drive(of(queue)[1].id, "success")
    found = read()
    assert one(found, "taskmill_canary_silent_seconds", queue=queue) == 0
    assert one(found, "taskmill_canary_delay_seconds", queue=queue) >= 90


def test_canaries_are_in_no_list_statistic_or_report_and_leave_after_a_while(
    queue: str, clock: Clock
) -> None:
    make_worker(queue)
    run(STEP, clock.after(0))
    (canary,) = of(queue)
    drive(canary.id, "failed")
    api = Api(make_key(make_tenant("acme")))
    for path in ("/tasks", f"/tasks?queue={queue}", "/dead-letters"):
        assert api.get(path).json()["results"] == []
    assert api.get("/stats").json()["totals"]["tasks"] == 0
    assert api.get(f"/tasks/{canary.id}").status_code == 404
    assert ("taskmill_recent_dead_letters", (("queue", queue),)) not in read()
    now = datetime.now(tz=UTC)
    assert finished_between(now - timedelta(hours=1), now + timedelta(hours=1)) == []
    run(STEP, clock.after(590))
    assert canary.id in {task.id for task in of(queue)}
    run(STEP, clock.after(620))
    assert canary.id not in {task.id for task in of(queue)}
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM taskmill_event WHERE task_id = %s", [canary.id])
        assert cursor.fetchone()[0] == 0


def test_canaries_are_off_unless_asked_for() -> None:
    names = {step.name for step in maintain_steps(conf())}
    asked = {step.name for step in maintain_steps(replace(conf(), canary_seconds=5.0))}
    assert asked - names == {"canaries"}
