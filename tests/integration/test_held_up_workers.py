"""A worker whose slots are held by long attempts does not keep what others have slots for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tasks_app.dispatch.rabbitmq import RabbitPublisher
from tests.engines import broker_queue, dispatcher
from tests.members import Members
from tests.processes import Process, running_worker, wait_for
from tests.rabbitmq import RabbitMQ

pytestmark = pytest.mark.django_db(transaction=True)
MANY = 1300
"""Messages, two of which may go together: more requests than Python calls fit into its stack."""

LONG_LEASES = {"TASKMILL_LEASE_SECONDS": "600", "TASKMILL_HELD_UP_SECONDS": "1"}

Start = Callable[..., Process]


@pytest.fixture
def members(valkey: Any, tmp_path: Path) -> Members:
    return Members(tmp_path)


@pytest.fixture
def start(members: Members) -> Iterator[Start]:
    """Start workers of one slot each."""
    with ExitStack() as stack:

        def start_one(**variables: str) -> Process:
            variables = LONG_LEASES | variables
            worker = running_worker(queues=members.queue, concurrency=1, **variables)
            return stack.enter_context(worker)

        yield start_one
        members.gate.touch()


def hold(members: Members, start: Start, **variables: str) -> Process:
    """Start a worker, and have task a take its slot until the gate is open."""
    worker = start(**variables)
    members.send("hold")
    members.wait_for("a begin")
    return worker


def run(members: Members, *names: str) -> None:
    """Hand out what is handed back until the tasks of these names have run."""
    with dispatcher() as engine:

        def have_run() -> bool:
            engine.round()
            states = members.states()
            return all(states[name] == "success" for name in names)

        try:
            wait_for(have_run, seconds=60)
        except AssertionError as error:
            raise AssertionError(f"not run by a worker: {members.states()}") from error


@pytest.mark.parametrize("together", [1, 10], ids=["alone", "together"])
def test_an_idle_worker_gets_what_a_held_up_one_took(
    members: Members, start: Start, together: int
) -> None:
    hold(members, start)
    members.send("end", "end", "end", alone=together)
    wait_for(lambda: "queued" in members.states().values(), reason="handed back", seconds=20)
    start()
    run(members, *"bcd")
    assert members.states()["a"] == "running"
    assert members.is_legal()


def test_a_held_up_worker_takes_no_more_than_its_prefetch_count(
    valkey: Any, tmp_path: Path, rabbitmq: RabbitMQ
) -> None:
    members = Members(tmp_path, make_publisher=lambda: of_rabbitmq(rabbitmq))

    def at_broker() -> list[int]:
        """Give how many messages nobody was given, and how many a worker was."""
        rows = rabbitmq.control("list_queues", "name", "messages_ready", "messages_unacknowledged")
        (found,) = (row.split() for row in rows.splitlines() if row.startswith(members.queue))
        return [int(count) for count in found[1:]]

    with running_worker(
        queues=members.queue,
        concurrency=1,
        BROKER_URL=rabbitmq.url,
        **LONG_LEASES,
    ):
        members.send("hold")
        members.wait_for("a begin")
        members.send("end", alone=10, priority=-50)
        wait_for(lambda: members.states()["b"] == "queued", reason="handed back", seconds=20)
        members.send(*["end"] * 11, alone=10)
        wait_for(lambda: at_broker() == [7, 4], reason="four are given to the worker", seconds=20)
        members.gate.touch()


def of_rabbitmq(rabbitmq: RabbitMQ) -> RabbitPublisher:
    return RabbitPublisher(
        [rabbitmq.url], queue_of=lambda name: broker_queue("amqp://", name), timeout_seconds=5.0
    )


def test_it_runs_on_once_a_slot_is_free(members: Members, start: Start) -> None:
    worker = hold(members, start, TASKMILL_HELD_UP_SECONDS="10")
    members.send(*["end"] * MANY, alone=2)
    others = set(members.ids) - {"a"}
    wait_for(
        lambda: {members.states()[name] for name in others} == {"queued"},
        reason="handed back",
        seconds=60,
    )
    members.gate.touch()
    members.wait_until(a="success")
    run(members, *others)
    assert worker.popen.poll() is None
    assert "RecursionError" not in worker.output()
    assert members.is_legal()
