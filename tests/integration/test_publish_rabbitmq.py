"""Publishing to a real RabbitMQ: confirms, returns, lost nodes, alarms."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import amqp
import kombu
import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.dispatch.bundles import Bundle
from tasks_app.dispatch.loop import DispatchWork
from tasks_app.dispatch.rabbitmq import RabbitPublisher
from tasks_app.errors import BrokerUnavailable
from tasks_app.transitions import DispatchedTask
from tests.engines import Hint, broker_queue, new_queue, read_hints, running_loop
from tests.factories import make_task, make_worker, task_column
from tests.processes import wait_for
from tests.rabbitmq import RabbitMQ, free_port


@pytest.fixture
def queue() -> str:
    return new_queue()


def make_publisher(*urls: str, timeout_seconds: float = 5.0) -> RabbitPublisher:
    return RabbitPublisher(
        urls, queue_of=lambda name: broker_queue("amqp://", name), timeout_seconds=timeout_seconds
    )


@pytest.fixture
def publisher(rabbitmq: RabbitMQ) -> Iterator[RabbitPublisher]:
    one = make_publisher(rabbitmq.url)
    one.open()
    yield one
    one.close()


def hints(queue: str, count: int = 1) -> list[DispatchedTask]:
    return [DispatchedTask(uuid.uuid4(), 7, "tests.echo", queue) for _ in range(count)]


def alone(tasks: Sequence[DispatchedTask]) -> list[Bundle]:
    return [Bundle([task]) for task in tasks]


def run_on_channel(rabbitmq: RabbitMQ, method: str, *arguments: Any) -> None:
    with kombu.Connection(rabbitmq.url) as broker, broker.channel() as channel:
        getattr(channel, method)(*arguments)


def test_a_batch_is_confirmed_in_order_in_a_quorum_queue(
    rabbitmq: RabbitMQ, publisher: RabbitPublisher, queue: str
) -> None:
    batch = hints(queue, 300)
    answer = publisher.publish(alone(batch))
    assert (len(answer.confirmed), answer.refused) == (300, [])
    assert f"{queue}\tquorum" in rabbitmq.control("list_queues", "name", "type")
    received = read_hints(queue, url=rabbitmq.url)
    assert [hint.task_id for hint in received] == [str(task.id) for task in batch]
    assert {(hint.dispatch_seq, hint.type) for hint in received} == {(7, "tests.echo")}


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="this system has no such option")
def test_nothing_is_held_back_in_the_socket_once_a_batch_is_written(
    queue: str, publisher: RabbitPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, sock = amqp.Channel.basic_publish, publisher._channel.connection.transport.sock
    corked: list[int] = []

    def note(channel: Any, *arguments: Any, **options: Any) -> Any:
        corked.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        return publish(channel, *arguments, **options)

    monkeypatch.setattr(type(publisher._channel), "basic_publish", note)
    batch = hints(queue, 3)
    assert publisher.publish(alone(batch)).confirmed == batch
    assert corked == [1, 1, 1]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0


def test_a_deleted_queue_refuses_its_hints_and_is_declared_again(
    rabbitmq: RabbitMQ, publisher: RabbitPublisher, queue: str
) -> None:
    other = new_queue()
    assert len(publisher.publish(alone(hints(queue) + hints(other))).confirmed) == 2
    run_on_channel(rabbitmq, "queue_delete", queue)
    lost, kept = hints(queue, 3), hints(other, 2)
    answer = publisher.publish(alone([lost[0], kept[0], lost[1], kept[1], lost[2]]))
    assert answer.confirmed == kept
    assert answer.refused == lost
    again = publisher.publish(alone(lost))
    assert (again.confirmed, again.refused) == (lost, [])
    assert len(read_hints(queue, url=rabbitmq.url)) == 3


def test_an_unroutable_hint_is_refused_although_the_broker_acks_it(
    rabbitmq: RabbitMQ, publisher: RabbitPublisher, queue: str
) -> None:
    publisher.publish(alone(hints(queue)))
    run_on_channel(rabbitmq, "queue_unbind", queue, "taskmill", queue)
    lost = hints(queue)
    assert publisher.publish(alone(lost)).refused == lost
    assert publisher.publish(alone(lost)).confirmed == lost


def test_a_queue_the_broker_refuses_does_not_hold_up_the_others(
    publisher: RabbitPublisher, queue: str
) -> None:
    bad, good = hints("amq.reserved"), hints(queue)
    answer = publisher.publish(alone([*bad, *good]))
    assert (answer.confirmed, answer.refused) == (good, bad)


def test_a_queue_of_another_kind_is_used_as_it_is(
    rabbitmq: RabbitMQ, publisher: RabbitPublisher, queue: str
) -> None:
    run_on_channel(rabbitmq, "queue_declare", queue, False, True, False, False)
    answer = publisher.publish(alone(hints(queue, 2)))
    assert len(answer.confirmed) == 2


def test_a_lost_connection_refuses_what_was_not_confirmed_and_is_replaced(
    rabbitmq: RabbitMQ, publisher: RabbitPublisher, queue: str
) -> None:
    publisher.publish(alone(hints(queue)))
    rabbitmq.stop_app()
    try:
        batch = hints(queue, 3)
        assert publisher.publish(alone(batch)).refused == batch
        with pytest.raises(BrokerUnavailable):
            publisher.open()
        assert publisher.publish(alone(batch)).refused == batch
    finally:
        rabbitmq.start_app()
        rabbitmq.wait_until_it_answers()
    publisher.open()
    assert wait_for(lambda: publisher.publish(alone(batch)).confirmed, seconds=10) == batch


def test_the_next_node_of_the_list_takes_over(rabbitmq: RabbitMQ, queue: str) -> None:
    publisher = make_publisher(f"amqp://nobody@127.0.0.1:{free_port()}//", rabbitmq.url)
    publisher.open()
    assert len(publisher.publish(alone(hints(queue))).confirmed) == 1
    publisher.close()


def test_a_broker_out_of_memory_ends_in_the_timeout_and_is_not_asked_again(
    rabbitmq: RabbitMQ, queue: str
) -> None:
    publisher = make_publisher(rabbitmq.url, timeout_seconds=1.0)
    publisher.open()
    publisher.publish(alone(hints(queue)))
    rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        started = monotonic()
        answer = publisher.publish(alone(hints(queue, 3)))
        assert (answer.confirmed, answer.refused) == ([], [])
        assert monotonic() - started < 4
        with pytest.raises(BrokerUnavailable, match="blocks publishers"):
            publisher.open()
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    wait_for(lambda: is_open(publisher), seconds=20, reason="the broker takes messages again")
    assert len(publisher.publish(alone(hints(queue))).confirmed) == 1
    publisher.close()


def is_open(publisher: RabbitPublisher) -> bool:
    try:
        publisher.open()
    except BrokerUnavailable:
        return False
    return True


def test_tasks_accepted_while_rabbitmq_restarts_are_published_when_it_returns(
    rabbitmq: RabbitMQ, transactional_db: None, queue: str
) -> None:
    settings = conf()
    make_worker(queue, slots=10)
    with running_loop(DispatchWork(make_publisher(rabbitmq.url), settings), settings):
        first = make_task(queue=queue)
        wait_for(lambda: task_column(first, "published_at"), seconds=20, reason="the first confirm")
        rabbitmq.halt()
        tasks = [make_task(queue=queue) for _ in range(5)]
        rabbitmq.start()
        received: dict[str, Hint] = {}

        def is_all_there() -> bool:
            make_worker(queue, slots=10)  # a look at the broker may outlast a worker's last report
            with connection.cursor() as cursor:
                transitions.sweep(cursor, publish_grace_seconds=6, redispatch_seconds=600)
            with suppress(amqp.AMQPError, OSError):
                received.update(
                    {hint.task_id: hint for hint in read_hints(queue, url=rabbitmq.url, wait=1)}
                )
            return set(received) == {str(one) for one in [first, *tasks]}

        wait_for(is_all_there, seconds=90, reason="hints of all tasks")


def test_a_bundle_is_one_message_and_shares_its_answer(
    rabbitmq: RabbitMQ, publisher: RabbitPublisher, queue: str
) -> None:
    together, single, nowhere = hints(queue, 3), hints(queue), hints(new_queue(), 2)
    publisher.publish(alone(hints(nowhere[0].queue)))
    run_on_channel(rabbitmq, "queue_delete", nowhere[0].queue)
    answer = publisher.publish([Bundle(one) for one in (together, single, nowhere)])
    assert answer.confirmed == [*together, *single]
    assert answer.refused == nowhere
    found = read_hints(queue, url=rabbitmq.url)
    assert [hint.task_id for hint in found] == [str(task.id) for task in [*together, *single]]
    assert len({id(hint.headers) for hint in found}) == 2
