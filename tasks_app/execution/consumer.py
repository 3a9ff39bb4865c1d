"""Celery's consumer in the worker's main process, as the setting `worker_consumer` names it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from django.db import Error

from tasks_app.execution.acks import acks
from tasks_app.execution.request import take_in
from tasks_app.telemetry import logger

log = logger(__name__)


class Consumer(CeleryConsumer):
    """Outlives what ends the worker with Celery's own: a lost Valkey, a database that is away."""

    def __init__(self, on_task_request: Any, *args: Any, **options: Any) -> None:
        super().__init__(partial(take_in, on_task_request), *args, **options)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Have all messages counted that Celery takes in."""
        take_in_message = super().create_task_handler(*args, **options)
        acks.begin(self.qos.value)  # type: ignore[attr-defined]  # a bootstep of Celery sets it

        def on_message(message: Any) -> None:
            acks.note(message)
            take_in_message(message)

        return on_message

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the lost connection, so that the caller connects anew.

        Celery 5.7 first collects a lost connection, which takes its transport away, and then closes
        it. Where a channel of Valkey or Redis is still open then and holds what is not
        acknowledged, Kombu wants to put that back, by the transport that is gone: an
        AttributeError, which nothing catches. By then the consumer has let go of the connection;
        the broker hands those messages out again after its visibility timeout, and platform tasks
        are swept much sooner.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except AttributeError as error:
            if self.connection is not None:
                raise
            log.warning("the lost connection could not be closed", reason=str(error))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a message of a task that no code here knows.

        Celery stores that as the task's failure, from this process, and raises where the database
        is away. The message is rejected by then; a hint of the platform is swept.
        """
        try:
            super().on_unknown_task(body, message, exc)
        except Error as error:
            log.warning("the failure of an unknown task cannot be stored", reason=str(error)[:200])
