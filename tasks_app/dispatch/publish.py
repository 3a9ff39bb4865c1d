"""The way hints leave for the broker: one small port, its answer, and the factory that picks the
implementation.

Called by the dispatch loop after its commit. A publisher never touches the database, and nothing
depends on a message arriving: what is refused goes back to the ready index at once, what stays
unknown is swept later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from django.conf import settings

from tasks_app.conf import conf
from tasks_app.dispatch.bundles import Bundle
from tasks_app.transitions import DispatchedTask


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a batch; a hint in neither list is unknown: the broker did not answer in time.

    Attributes:
        confirmed: the broker has them.
        refused: the broker said no, returned them as unroutable, or the connection broke before
            it took them.
    """

    confirmed: list[DispatchedTask] = field(default_factory=list)
    refused: list[DispatchedTask] = field(default_factory=list)


class Publisher(Protocol):
    """A connection to the broker, owned by one thread."""

    def open(self) -> None:
        """Make sure that the broker takes messages: connect if needed, keep an idle connection
        alive.

        Raises:
            BrokerUnavailable: it does not; dispatch nothing and ask again later.
        """

    def publish(self, batch: Sequence[Bundle]) -> Published:
        """Publish bundles in order, a message each, and wait at most the confirm timeout.

        Never raises for what the broker does.
        """

    def close(self) -> None:
        """Disconnect; `open` connects again."""


def make_publisher() -> Publisher:
    """Give the publisher for `BROKER_URL`: RabbitMQ, or Valkey and Redis."""
    urls = [url.strip() for url in settings.BROKER_URL.split(";") if url.strip()]
    timeout = conf().confirm_timeout_seconds
    if settings.IS_RABBITMQ:
        from tasks_app.dispatch.rabbitmq import RabbitPublisher

        return RabbitPublisher(urls, queue_of=settings.BROKER_QUEUE, timeout_seconds=timeout)
    from tasks_app.dispatch.valkey import ValkeyPublisher

    return ValkeyPublisher(urls, timeout_seconds=timeout)
