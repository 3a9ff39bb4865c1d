"""Publishing to RabbitMQ: confirms are pipelined, unroutable hints come back, a lost node is
replaced by the next.

A batch is written out as a whole and its confirms are gathered afterwards, so that a quorum
queue's write to its replicas is waited for once per batch. Queues are declared before their first
use and again after a message was returned.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import amqp
import kombu

from tasks_app.clock import monotonic
from tasks_app.db import process_name
from tasks_app.dispatch.bundles import Bundle
from tasks_app.dispatch.message import CONTENT_ENCODING, CONTENT_TYPE, hint_message
from tasks_app.dispatch.publish import Published
from tasks_app.errors import BrokerUnavailable
from tasks_app.telemetry import logger
from tasks_app.transitions import DispatchedTask

log = logger(__name__)

HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 3.0
PERSISTENT = 2
BROKER_FAULTS = (amqp.AMQPError, OSError)


class _Answers:
    """What the broker said about the messages of one channel, by delivery tag."""

    def __init__(self) -> None:
        self.waiting: dict[int, Bundle] = {}
        self.acked: list[Bundle] = []
        self.nacked: list[Bundle] = []
        self.returned: set[str] = set()
        self._tag = 0

    def expect(self, bundle: Bundle) -> None:
        """Note that the next message is about to leave."""
        self._tag += 1
        self.waiting[self._tag] = bundle

    def on_ack(self, tag: int, multiple: bool) -> None:
        self.acked.extend(self._settle(tag, multiple=multiple))

    def on_nack(self, tag: int, multiple: bool) -> None:
        self.nacked.extend(self._settle(tag, multiple=multiple))

    def on_return(self, _error: Any, _exchange: str, _routing_key: str, message: Any) -> None:
        self.returned.add(message.properties.get("correlation_id", ""))

    def _settle(self, tag: int, *, multiple: bool) -> list[Bundle]:
        tags = [one for one in self.waiting if one <= tag] if multiple else [tag]
        found = [self.waiting.pop(one, None) for one in tags]
        return [bundle for bundle in found if bundle is not None]

    def take(self) -> Published:
        """Give the answers of a batch and forget it; a late answer then means nothing."""
        returned = [one for one in self.acked if str(one.tasks[0].id) in self.returned]
        confirmed = [one for one in self.acked if str(one.tasks[0].id) not in self.returned]
        answer = Published(_flat(confirmed), _flat(returned + self.nacked))
        self.waiting, self.acked, self.nacked, self.returned = {}, [], [], set()
        return answer


def _flat(bundles: Sequence[Bundle]) -> list[DispatchedTask]:
    return [task for bundle in bundles for task in bundle.tasks]


class RabbitPublisher:
    """A `Publisher` on one AMQP channel in confirm mode.

    Args:
        urls: nodes of one cluster, tried in turn.
        queue_of: gives the kombu queue of a Taskmill queue.
        timeout_seconds: for the confirms of a batch, and for each answer of the broker.
        ssl: as kombu takes it, or None for what the URL says.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        queue_of: Callable[[str], kombu.Queue],
        timeout_seconds: float,
        ssl: Any = None,
    ) -> None:
        self._urls = list(urls)
        self._origin = process_name()
        self._queue_of = queue_of
        self._timeout_seconds = timeout_seconds
        self._ssl = ssl
        self._connection: kombu.Connection | None = None
        self._channel: Any = None
        self._answers = _Answers()
        self._declared: set[str] = set()
        self._is_blocked = False

    def open(self) -> None:
        """Connect, or keep the idle connection alive; see `Publisher.open`."""
        if self._connection is not None:
            try:
                self._connection.connection.heartbeat_tick()
                self._drain_pending()
            except BROKER_FAULTS as fault:
                log.warning("the connection to the broker is lost", reason=str(fault))
                self.close()
        if self._connection is None:
            self._connect()
        if self._is_blocked:
            raise BrokerUnavailable("the broker blocks publishers: a memory or disk alarm is on")

    def _drain_pending(self) -> None:
        assert self._connection is not None  # noqa: S101 - open() said so
        try:
            while True:
                self._connection.drain_events(timeout=0)
        except TimeoutError:
            return

    def _connect(self) -> None:
        fault: Exception | None = None
        for _ in range(len(self._urls)):
            try:
                self._connect_to(self._urls[0])
            except BROKER_FAULTS as error:
                fault = error
                self.close()
                self._urls.append(self._urls.pop(0))
            else:
                return
        raise BrokerUnavailable from fault

    def _connect_to(self, url: str) -> None:
        self._connection = kombu.Connection(
            url,
            ssl=self._ssl,
            heartbeat=HEARTBEAT_SECONDS,
            connect_timeout=min(CONNECT_SECONDS, self._timeout_seconds),
            transport_options={"on_blocked": self._blocked, "on_unblocked": self._unblocked},
        )
        self._connection.ensure_connection(
            max_retries=1, interval_start=0, reraise_as_library_errors=False
        )
        connection: Any = self._connection.connection
        connection.transport.sock.settimeout(self._timeout_seconds)
        self._answers = _Answers()
        self._channel = connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._answers.on_ack)
        self._channel.events["basic_nack"].add(self._answers.on_nack)
        self._channel.events["basic_return"].add(self._answers.on_return)
        log.info("publishes to the broker", broker=self._connection.as_uri())

    def _blocked(self, reason: str) -> None:
        self._is_blocked = True
        log.error("the broker blocks publishers", reason=reason)

    def _unblocked(self) -> None:
        self._is_blocked = False
        log.info("the broker takes messages again")

    def publish(self, batch: Sequence[Bundle]) -> Published:
        """Publish a batch; see `Publisher.publish`."""
        tasks = _flat(batch)
        if self._channel is None:
            return Published([], tasks)
        try:
            unroutable = self._declare({task.queue for task in tasks})
            with self._full_packets():
                self._send([one for one in batch if one.tasks[0].queue not in unroutable])
            self._gather()
        except BROKER_FAULTS as fault:
            return self._broken(tasks, fault)
        lost = sum(len(bundle.tasks) for bundle in self._answers.waiting.values())
        answer = self._answers.take()
        self._declared -= {task.queue for task in answer.refused}
        answer.refused.extend(task for task in tasks if task.queue in unroutable)
        if lost:
            log.warning("the broker did not confirm in time", hints=lost)
            if not self._is_blocked:
                self.close()
        return answer

    @contextmanager
    def _full_packets(self) -> Iterator[None]:
        """Have the system send full packets where it can, instead of one for each message.

        The broker's process of the connection wakes for each: a third of what a message costs it.
        """
        transport = getattr(self._channel.connection, "transport", None)  # None once it is lost
        sock: socket.socket | None = getattr(transport, "sock", None)
        cork = getattr(socket, "TCP_CORK", None)
        if cork is None or sock is None:
            yield
            return
        sock.setsockopt(socket.IPPROTO_TCP, cork, 1)
        try:
            yield
        finally:
            sock.setsockopt(socket.IPPROTO_TCP, cork, 0)

    def _send(self, bundles: Sequence[Bundle]) -> None:
        for bundle in bundles:
            message, queue = hint_message(bundle, origin=self._origin), bundle.tasks[0].queue
            self._answers.expect(bundle)
            self._channel.basic_publish(
                amqp.Message(
                    message.body,
                    content_type=CONTENT_TYPE,
                    content_encoding=CONTENT_ENCODING,
                    application_headers=message.headers,
                    delivery_mode=PERSISTENT,
                    **message.properties,
                ),
                exchange=self._queue_of(queue).exchange.name,
                routing_key=queue,
                mandatory=True,
            )

    def _gather(self) -> None:
        assert self._connection is not None  # noqa: S101 - publish() said so
        end = monotonic() + self._timeout_seconds
        while self._answers.waiting and (left := end - monotonic()) > 0:
            try:
                self._connection.drain_events(timeout=left)
            except TimeoutError:
                return

    def _broken(self, tasks: Sequence[DispatchedTask], fault: Exception) -> Published:
        """Count everything that was not confirmed before the connection broke as refused."""
        log.warning("publishing failed", reason=str(fault), hints=len(tasks))
        confirmed = self._answers.take().confirmed
        self.close()
        known: set[uuid.UUID] = {task.id for task in confirmed}
        return Published(confirmed, [task for task in tasks if task.id not in known])

    def _declare(self, names: set[str]) -> set[str]:
        """Declare the queues not yet known; give those that the broker refuses to have."""
        refused: set[str] = set()
        for name in sorted(names - self._declared):
            try:
                self._declare_one(name)
            except amqp.ChannelError as fault:
                log.error("the broker refuses a queue", queue=name, reason=str(fault))  # noqa: TRY400
                refused.add(name)
            else:
                self._declared.add(name)
        return refused

    def _declare_one(self, name: str) -> None:
        """Declare on a channel of its own; a queue of another kind is used as it is."""
        assert self._connection is not None  # noqa: S101 - publish() said so
        queue = self._queue_of(name)
        try:
            with self._connection.channel() as channel:
                queue(channel).declare()
        except amqp.PreconditionFailed as fault:
            log.warning("a queue of another kind is in use", queue=name, reason=str(fault))
            with self._connection.channel() as channel:
                queue(channel).queue_bind()

    def close(self) -> None:
        """Disconnect without waiting for an answer."""
        connection, self._connection, self._channel = self._connection, None, None
        self._declared, self._is_blocked = set(), False
        if connection is not None:
            connection.collect(socket_timeout=0.1)
