"""The Celery face of a task type.

A Celery task that runs hints, refuses to be called past the store, and stays quiet.

A hint is published raw by the dispatcher; ordinary Celery calls (`delay`, `apply_async`, canvas)
would bypass the store and are refused with the way to go instead.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from celery import Task
from celery.exceptions import Retry

from tasks_app.errors import ConfigurationError
from tasks_app.execution.child import current_child
from tasks_app.execution.request import AttemptFailed
from tasks_app.execution.runner import run_hints
from tasks_app.hints import read_hints
from tasks_app.registry import Handler
from tasks_app.states import Verb
from tasks_app.telemetry import logger

log = logger(__name__)


class PlatformTask(Task[Any, None]):
    """Celery task of one task type; `platform_handler` is set where it is registered."""

    abstract = True
    Request = "tasks_app.execution.request:PlatformRequest"
    Strategy = "tasks_app.execution.request:strategy"
    platform_handler: ClassVar[Handler]
    ignore_result = True
    store_errors_even_if_ignored = False
    throws = (AttemptFailed,)
    acks_late = False
    track_started = False
    max_retries = 0

    def run(self, *args: Any, **_kwargs: Any) -> None:
        """Run the hint that this Celery message is.

        Raises:
            AttemptFailed: the attempt failed for good; written already, this is for Celery's eyes.
            Retry: the attempt failed and another follows; likewise.
        """
        child = current_child()
        if child is None:
            raise ConfigurationError("platform tasks run in the prefork pool of a Taskmill worker")
        hints = read_hints(self.request.id, args)
        if not hints:
            if args:
                log.warning("message is no hint", task_type=self.name, task_id=self.request.id)
            return
        ended = run_hints(child, self.platform_handler, hints)
        if ended is not None and ended.verb is Verb.RETRY:
            raise Retry(exc=AttemptFailed(ended.attempt_outcome))
        if ended is not None and ended.verb is Verb.FAIL:
            raise AttemptFailed(ended.attempt_outcome)

    def apply_async(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse.

        Raises:
            ConfigurationError: always; the message names the way to go.
        """
        raise ConfigurationError(
            f"{self.name} is a Taskmill task type: submit it with its handler's submit(payload) "
            "or over the API; a Celery message would bypass the store"
        )

    def apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse like `apply_async`; `test_run` runs a handler in this process."""
        self.apply_async(*args, **kwargs)
