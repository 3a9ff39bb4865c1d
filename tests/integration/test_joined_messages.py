"""Messages of short tasks that wait in a real worker for its one slot, or that come at once, are
taken together.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.result import AsyncResult
from django.conf import settings

from tasks_app.db import connect
from tasks_app.dispatch.rabbitmq import RabbitPublisher
from tasks_app.models import Event, Task
from tests.engines import broker_queue
from tests.members import Members
from tests.processes import Process, running_worker, wait_for
from tests.rabbitmq import RabbitMQ

pytestmark = pytest.mark.django_db(transaction=True)
IDLE_LOOP_SECONDS = 1.0
"""Celery's loop looks up so much later where nothing happens."""


@pytest.fixture
def members(valkey: Any, tmp_path: Path) -> Members:
    return Members(tmp_path)


@pytest.fixture
def store(valkey: Any) -> Iterator[redis.Redis]:
    path, _, database = settings.BROKER_URL.removeprefix("redis+socket://").partition(
        "?virtual_host="
    )
    client = redis.Redis(unix_socket_path=path, db=int(database or 0))
    yield client
    client.close()


@pytest.fixture
def worker(members: Members) -> Iterator[Process]:
    """A worker whose only slot is taken by task a until the gate is open."""
    with running_worker(
        queues=members.queue,
        concurrency=1,
        TASKMILL_LEASE_SECONDS="600",
        TASKMILL_HELD_UP_SECONDS="600",
    ) as one:
        members.send("hold")
        members.wait_for("a begin")
        yield one


def send(members: Members, store: redis.Redis, *does: str, together: int = 10) -> None:
    """Send each in a message of its own, and see the worker take all messages."""
    members.send(*does, alone=together, max_retry=0)
    wait_for(lambda: store.llen(members.queue) == 0, reason="the worker has them", seconds=20)


def claims(members: Members) -> list[str]:
    """Give who was claimed together, in the order of the claims: `["a", "bcd"]`."""
    names = {task_id: name for name, task_id in members.ids.items()}
    found: dict[Any, str] = {}
    for event in Event.objects.filter(task_id__in=names, type="task.started").order_by("at", "id"):
        found[event.at] = found.get(event.at, "") + names[event.task_id]
    return list(found.values())


def test_they_are_claimed_in_one_statement_and_each_runs_once(
    members: Members, store: redis.Redis, worker: Process
) -> None:
    send(members, store, "end", "end", "fail", "end")
    members.gate.touch()
    members.wait_until(a="success", b="success", c="success", d="failed", e="success")
    assert claims(members) == ["a", "bcde"]
    assert [line for line in members.noted() if line.endswith("begin")] == [
        f"{name} begin" for name in "abcde"
    ]
    assert members.is_legal()


@pytest.fixture
def of_rabbitmq(valkey: Any, tmp_path: Path, rabbitmq: RabbitMQ) -> Members:
    def make_publisher() -> RabbitPublisher:
        return RabbitPublisher(
            [rabbitmq.url],
            queue_of=lambda name: broker_queue("amqp://", name),
            timeout_seconds=5.0,
        )

    return Members(tmp_path, make_publisher=make_publisher)


def idle_worker(
    members: Members, rabbitmq: RabbitMQ, *, concurrency: int
) -> AbstractContextManager[Process]:
    return running_worker(
        queues=members.queue,
        concurrency=concurrency,
        BROKER_URL=rabbitmq.url,
        TASKMILL_LEASE_SECONDS="600",
    )


def test_those_that_come_at_once_to_free_slots_are_taken_together(
    of_rabbitmq: Members, rabbitmq: RabbitMQ
) -> None:
    with idle_worker(of_rabbitmq, rabbitmq, concurrency=4) as worker:
        worker.popen.send_signal(signal.SIGSTOP)
        of_rabbitmq.send(*["end"] * 8, alone=10)
        worker.popen.send_signal(signal.SIGCONT)
        of_rabbitmq.wait_until(**dict.fromkeys("abcdefgh", "success"))
    assert len(claims(of_rabbitmq)) <= 3


def test_one_that_comes_alone_to_an_idle_worker_waits_for_no_other_event(
    of_rabbitmq: Members, rabbitmq: RabbitMQ
) -> None:
    with idle_worker(of_rabbitmq, rabbitmq, concurrency=1):
        for name in "abcdefgh":
            of_rabbitmq.send("end", alone=10)
            of_rabbitmq.wait_until(**{name: "success"})
    found = Task.objects.filter(id__in=of_rabbitmq.ids.values())
    waits = sorted((one.started_at - one.dispatched_at).total_seconds() for one in found)
    assert waits[len(waits) // 2] < IDLE_LOOP_SECONDS / 2


def test_no_more_than_a_message_allows(
    members: Members, store: redis.Redis, worker: Process
) -> None:
    send(members, store, "end", "end", "end", together=2)
    members.gate.touch()
    members.wait_until(b="success", c="success", d="success")
    assert claims(members) == ["a", "bc", "d"]


def test_a_message_that_does_not_allow_it_goes_alone(
    members: Members, store: redis.Redis, worker: Process
) -> None:
    members.send("end", "end", alone=1)
    members.gate.touch()
    members.wait_until(b="success", c="success")
    assert claims(members) == ["a", "b", "c"]


def test_a_worker_may_be_told_to_take_each_alone(members: Members, store: redis.Redis) -> None:
    with running_worker(queues=members.queue, concurrency=1, TASKMILL_BUNDLE_MOST="1"):
        members.send("hold")
        members.wait_for("a begin")
        members.send("end", "end", alone=10)
        members.gate.touch()
        members.wait_until(b="success", c="success")
    assert claims(members) == ["a", "b", "c"]


@pytest.mark.parametrize("revoked", ["b", "c"])
def test_one_that_is_revoked_is_cancelled_and_the_others_run(
    members: Members, store: redis.Redis, worker: Process, revoked: str
) -> None:
    send(members, store, "end", "end", "end")
    AsyncResult(str(members.ids[revoked])).revoke()
    pings = worker_control(members)
    assert pings, "the worker has taken the order, which came before this one"
    members.gate.touch()
    members.wait_until(a="success", **{revoked: "cancelled"})
    others = {name: "success" for name in "bcd" if name != revoked}
    wait_for(lambda: _settle(members, others), reason="the others run", seconds=30)
    assert f"{revoked} begin" not in members.noted()
    assert members.is_legal()


def test_one_that_joined_and_is_revoked_is_not_even_claimed(
    members: Members, store: redis.Redis, worker: Process
) -> None:
    send(members, store, "end", "end", "end")
    AsyncResult(str(members.ids["c"])).revoke()
    assert worker_control(members), "the worker has taken the order, which came before this one"
    with connect("lock") as one, one.transaction():
        one.execute("SELECT FROM taskmill_task WHERE id = %s FOR UPDATE", [members.ids["c"]])
        members.gate.touch()
        members.wait_until(a="success", b="success", d="success")
    members.wait_until(c="cancelled")
    assert members.is_legal()


def test_a_worker_that_stops_hands_back_what_waits(
    members: Members, store: redis.Redis, worker: Process
) -> None:
    send(members, store, "end", "end", "end", together=2)
    worker.popen.terminate()
    wait_for(
        lambda: {members.states()[name] for name in "bcd"} == {"queued"},
        reason="handed back while a still runs",
        seconds=30,
    )
    members.gate.touch()
    worker.popen.wait(30)
    assert members.states()["a"] == "success"


def test_a_worker_that_loses_the_broker_hands_back_what_waits(
    members: Members, store: redis.Redis, worker: Process
) -> None:
    send(members, store, "end", "end", "end", together=2)
    store.client_kill_filter(_type="normal", skipme=True)
    wait_for(
        lambda: {members.states()[name] for name in "bcd"} == {"queued"},
        reason="handed back while a still runs",
        seconds=30,
    )
    members.gate.touch()
    members.wait_until(a="success")
    members.dispatch()
    members.wait_until(b="success", c="success", d="success")
    assert members.is_legal()


def worker_control(members: Members) -> Any:
    """Ask the workers for an answer by remote control, whose orders come in their order."""
    from config.celery import app

    return app.control.ping(timeout=5, limit=1)


def _settle(members: Members, wanted: dict[str, str]) -> bool:
    """Hand out what was handed back, and look."""
    states = members.states()
    if "queued" in states.values():
        members.dispatch()
    return {name: states[name] for name in wanted} == wanted
