"""Acknowledgements on a real RabbitMQ: gathered, and never of what somebody still works on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import kombu
import pytest
from kombu.asynchronous import Hub, get_event_loop, set_event_loop

from tasks_app.clock import monotonic
from tasks_app.execution.acks import MOST, Acks
from tests.engines import broker_queue, new_queue
from tests.processes import wait_for
from tests.rabbitmq import RabbitMQ

PREFETCH = 8
TAKE_SECONDS = 60.0
LOG = logging.getLogger(__name__)


class Worker:
    """A consumer that acknowledges as a worker's main process does.

    Args:
        keeps: which messages it works on and does not acknowledge, by number.
        is_ordinary: which it acknowledges as Celery does those of its own tasks.
    """

    def __init__(
        self,
        url: str,
        queue: kombu.Queue,
        *,
        keeps: tuple[int, ...] = (),
        is_ordinary: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self.acks = Acks()
        self.acks.begin(PREFETCH)
        self.come: list[Any] = []
        self._keeps, self._is_ordinary = keeps, is_ordinary
        self._hub, self._is_open = set_event_loop(Hub()), True
        self.connection = kombu.Connection(url)
        self.connection.register_with_event_loop(self._hub)
        channel = self.connection.channel()
        channel.basic_qos(0, PREFETCH, False)
        kombu.Consumer(channel, [queue], on_message=self._on_message).consume()

    def _on_message(self, message: Any) -> None:
        number = len(self.come)
        self.come.append(message)
        self.acks.note(message)
        if self._is_ordinary(number):
            message.ack()
        elif number not in self._keeps:
            self.acks.of(message, message.ack_log_error)(LOG, self.connection.connection_errors)

    def take(self, count: int) -> int:
        """Take so many messages, and give how many frames were written meanwhile."""
        set_event_loop(self._hub)
        before = self.connection.connection.bytes_sent  # counts frames, whatever its name says
        end = monotonic() + TAKE_SECONDS
        while len(self.come) < count or self.acks._wanted:
            self._hub.run_once()
            assert monotonic() < end, f"{len(self.come)} of {count} came; {vars(self.acks)}"
        return int(self.connection.connection.bytes_sent - before)

    def say(self) -> bool:
        """Acknowledge what is due, without reading; say whether nothing is left."""
        self._hub.fire_timers()
        return not self.acks._wanted

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._hub.close()
            self.connection.close()


Start = Callable[..., Worker]


@pytest.fixture
def queue(rabbitmq: RabbitMQ) -> kombu.Queue:
    return broker_queue("amqp://", new_queue())


@pytest.fixture
def start(rabbitmq: RabbitMQ, queue: kombu.Queue) -> Iterator[Start]:
    """Start workers of a queue that is declared."""
    before = get_event_loop()
    with ExitStack() as stack:
        with kombu.Connection(rabbitmq.url) as connection:
            queue(connection.channel()).declare()

        def start_one(**options: Any) -> Worker:
            worker = Worker(rabbitmq.url, queue, **options)
            stack.callback(worker.close)
            return worker

        yield start_one
    set_event_loop(before)


def publish(rabbitmq: RabbitMQ, queue: kombu.Queue, count: int) -> None:
    """Publish with confirms: a quorum queue may lose what a closing channel did not wait for."""
    options = {"confirm_publish": True}
    with kombu.Connection(rabbitmq.url, transport_options=options) as connection:
        channel = connection.channel()
        producer = kombu.Producer(channel, exchange=queue.exchange, routing_key=queue.name)
        for number in range(count):
            producer.publish({"number": number})


def at_broker(rabbitmq: RabbitMQ, queue: kombu.Queue) -> list[int]:
    """Give how many messages nobody was given, and how many are not acknowledged."""
    rows = rabbitmq.control("list_queues", "name", "messages_ready", "messages_unacknowledged")
    (found,) = (row.split() for row in rows.splitlines() if row.startswith(queue.name))
    return [int(count) for count in found[1:]]


def test_messages_that_follow_one_another_are_acknowledged_together(
    rabbitmq: RabbitMQ, queue: kombu.Queue, start: Start
) -> None:
    worker = start()
    publish(rabbitmq, queue, 80)
    assert worker.take(80) <= 40
    wait_for(lambda: at_broker(rabbitmq, queue) == [0, 0], reason="all are acknowledged")


def test_the_last_is_acknowledged_though_no_other_comes(
    rabbitmq: RabbitMQ, queue: kombu.Queue, start: Start
) -> None:
    worker = start()
    publish(rabbitmq, queue, 1)
    assert worker.take(1) == 1
    wait_for(lambda: at_broker(rabbitmq, queue) == [0, 0], reason="it is acknowledged")


@pytest.mark.parametrize("kept", [0, 3, 39])
def test_what_somebody_works_on_comes_again_with_the_lost_worker_and_nothing_else(
    rabbitmq: RabbitMQ, queue: kombu.Queue, start: Start, kept: int
) -> None:
    worker = start(keeps=(kept,))
    publish(rabbitmq, queue, 40)
    worker.take(40)
    wait_for(lambda: at_broker(rabbitmq, queue) == [0, 1], reason="one is not acknowledged")
    worker.close()
    other = start()
    other.take(1)
    assert [message.payload for message in other.come] == [{"number": kept}]
    assert [message.delivery_info["redelivered"] for message in other.come] == [True]


def test_messages_of_others_that_are_done_are_not_remembered(
    rabbitmq: RabbitMQ, queue: kombu.Queue, start: Start
) -> None:
    worker = start(keeps=(0,), is_ordinary=lambda number: number > 0)
    publish(rabbitmq, queue, 4 * MOST)
    worker.take(4 * MOST)
    assert len(worker.acks._open) <= MOST + 1
    wait_for(lambda: at_broker(rabbitmq, queue) == [0, 1], reason="one is not acknowledged")


def test_a_lost_connection_has_what_was_not_yet_acknowledged_come_again(
    rabbitmq: RabbitMQ, queue: kombu.Queue, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    publish(rabbitmq, queue, 1)
    worker.connection.drain_events(timeout=10)
    worker.connection.connection.transport.close()
    wait_for(worker.say, reason="it tries to acknowledge")
    assert "Couldn't ack" in caplog.text
    other = start()
    other.take(1)
    assert [message.payload for message in other.come] == [{"number": 0}]
