"""Publishing to Valkey or Redis through kombu's transport, so that Celery workers consume it; a
batch is one pipeline.

There are no confirms: the answer to the pipeline is one. Messages go to the list of the queue
itself: a lookup of the topic exchange would cost a round trip per message, and routing key and
queue have the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import kombu
import redis
from kombu import exceptions

from tasks_app.clock import monotonic
from tasks_app.db import process_name
from tasks_app.dispatch.bundles import Bundle
from tasks_app.dispatch.message import CONTENT_ENCODING, CONTENT_TYPE, hint_message
from tasks_app.dispatch.publish import Published
from tasks_app.errors import BrokerUnavailable
from tasks_app.telemetry import logger

log = logger(__name__)

BROKER_FAULTS = (redis.RedisError, exceptions.KombuError, OSError)
IDLE_SECONDS = 0.5


class ValkeyPublisher:
    """A `Publisher` on one connection to Valkey or Redis.

    Args:
        urls: servers, tried in turn.
        timeout_seconds: for the answer to a batch.
    """

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float) -> None:
        self._urls = list(urls)
        self._origin = process_name()
        self._timeout_seconds = timeout_seconds
        self._connection: kombu.Connection | None = None
        self._producer: Any = None
        self._used_at = 0.0

    def open(self) -> None:
        """Connect, or ask an idle connection for a sign of life; see `Publisher.open`."""
        if self._producer is not None and monotonic() - self._used_at > IDLE_SECONDS:
            try:
                self._ping()
            except BROKER_FAULTS as fault:
                log.warning("the connection to the broker is lost", reason=str(fault))
                self.close()
        if self._producer is None:
            self._connect()

    def _ping(self) -> None:
        self._producer.channel.client.ping()
        self._used_at = monotonic()

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
        limits = {
            "socket_timeout": self._timeout_seconds,
            "socket_connect_timeout": self._timeout_seconds,
        }
        self._connection = kombu.Connection(url, transport_options=limits)
        self._connection.ensure_connection(
            max_retries=1, interval_start=0, reraise_as_library_errors=False
        )
        self._producer = kombu.Producer(self._connection.channel(), auto_declare=False)
        self._ping()
        log.info("publishes to the broker", broker=self._connection.as_uri())

    def publish(self, batch: Sequence[Bundle]) -> Published:
        """Publish a batch; see `Publisher.publish`."""
        tasks = [task for bundle in batch for task in bundle.tasks]
        if self._producer is None:
            return Published([], tasks)
        try:
            with self._producer.batch(max_size=len(batch) + 1):
                for bundle in batch:
                    self._send(self._producer, bundle)
        except BROKER_FAULTS as fault:
            log.warning("publishing failed", reason=str(fault), hints=len(tasks))
            self.close()
            is_unknown = any(isinstance(one, TIMEOUTS) for one in _causes(fault))
            return Published([], [] if is_unknown else tasks)
        self._used_at = monotonic()
        return Published(tasks, [])

    def _send(self, producer: Any, bundle: Bundle) -> None:
        message = hint_message(bundle, origin=self._origin)
        producer.publish(
            message.body,
            exchange="",
            routing_key=bundle.tasks[0].queue,
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            headers=message.headers,
            retry=False,
            **message.properties,
        )

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except BROKER_FAULTS as fault:
                log.debug("the connection ended with an error", reason=str(fault))


TIMEOUTS = (redis.TimeoutError, TimeoutError)


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    while fault is not None:
        yield fault
        fault = fault.__cause__
