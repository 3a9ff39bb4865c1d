"""Celery's consumer in the worker's main process, as the setting `worker_consumer` names it."""

from __future__ import annotations

from celery.worker.consumer import Consumer as CeleryConsumer

from tasks_app.telemetry import logger

log = logger(__name__)


class Consumer(CeleryConsumer):
    """Outlives the loss of a Valkey or Redis that it holds unacknowledged messages of.

    Celery 5.7 first collects a lost connection, which takes its transport away, and then closes
    it. Where a channel is still open then, Kombu's Redis channel wants to put back what is not
    acknowledged, by the transport that is gone: an AttributeError, which nothing catches and the
    worker ends with. By then the consumer has let go of the connection; the broker hands those
    messages out again after its visibility timeout, and platform tasks are swept much sooner.
    """

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the lost connection, so that the caller connects anew."""
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            if self.connection is not None:
                raise
            log.warning("the lost connection could not be closed", reason=str(error))
