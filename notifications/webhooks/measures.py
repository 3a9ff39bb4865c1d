"""What the queue of webhooks is watched by; see `tasks_app.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from notifications.webhooks.selectors import webhook_queue
from tasks_app.platform import Metric, MetricSource, Sample

QUEUE: Final = Metric(
    name="taskmill_webhook_queue",
    doc="Webhook deliveries: `pending`, and of them those whose time has come (`due`); counting "
    "ends at 100,000.",
    labels=("state",),
)
OLDEST_DUE: Final = Metric(
    name="taskmill_webhook_queue_oldest_due_seconds",
    doc="How long the longest waiting of the due webhook deliveries has been due.",
)
SOURCE: Final = MetricSource(
    name="webhooks",
    metrics=(QUEUE, OLDEST_DUE),
    read="notifications.webhooks.measures.queue_samples",
)


def queue_samples() -> Iterator[Sample]:
    """Read the size of the queue."""
    queue = webhook_queue()
    yield Sample(QUEUE, queue.pending, ("pending",))
    yield Sample(QUEUE, queue.due, ("due",))
    yield Sample(OLDEST_DUE, queue.oldest_due_seconds)
