"""The Celery face of a task type.

A Celery task that runs hints, refuses to be called past the store, and stays quiet.

A hint is published raw by the dispatcher; ordinary Celery calls (`delay`, `apply_async`, canvas)
would bypass the store and are refused with the way to go instead.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, NoReturn

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # stubs lack it
from celery import Task
from celery.exceptions import Retry
from celery.worker.request import Request
from celery.worker.state import revoked as revoked_ids
from celery.worker.state import task_ready

from tasks_app.errors import ConfigurationError
from tasks_app.execution.child import current_child
from tasks_app.execution.orders import orders
from tasks_app.execution.runner import run_hints
from tasks_app.registry import Handler
from tasks_app.states import Verb
from tasks_app.telemetry import logger

log = logger(__name__)


class AttemptFailed(Exception):
    """An attempt failed; its row and history say how. Shown by Flower, stored by nobody."""


class PlatformRequest(Request):
    """A hint in the worker's main process.

    The row decides on its end, so nothing is stored or reported here.
    """

    def on_failure(self, exc_info: Any, *_: Any, **__: Any) -> None:
        """Tell those who watch Celery's events how the attempt ended.

        A dead child is the lease keeper's business; what else its message named is returned.
        """
        task_ready(self)
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, Retry):
            self.send_event("task-retried", exception=str(error.exc or error), traceback="")
        elif isinstance(error, AttemptFailed):
            self.send_event("task-failed", exception=str(error), traceback="")
        else:
            orders().return_hints(read_hints(self.id, self.args))
        log.debug("hint ended with an exception", task_id=self.id, reason=str(error))

    def on_timeout(self, soft: bool, _timeout: float) -> None:
        """Do nothing: the process timeout is the lease keeper's."""

    def revoked(self) -> bool:
        """Turn `AsyncResult.revoke()` of a platform task into a request to cancel it."""
        if self.id not in revoked_ids:
            return False
        orders().cancel(self.id)
        self.acknowledge()
        task_ready(self)
        return True

    def terminate(self, _pool: Any, signal: Any = None) -> None:  # noqa: ARG002 - Celery's name
        """Turn `AsyncResult.revoke(terminate=True)` into a request to cancel the task."""
        orders().cancel(self.id)

    def cancel(self, _pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Do nothing: losing the broker does not stop an attempt."""


class PlatformTask(Task[Any, None]):
    """Celery task of one task type; `platform_handler` is set where it is registered."""

    abstract = True
    Request = "tasks_app.execution.base:PlatformRequest"
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
            log.warning("message is no hint, dropped", task_type=self.name, task_id=self.request.id)
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


def read_hints(task_id: Any, arguments: Any) -> list[tuple[uuid.UUID, int]]:
    """Read the hints `(task id, dispatch number)` of a message; empty where it is none.

    Args:
        task_id: the Celery id: the first task's.
        arguments: `[dispatch_seq]` or `[dispatch_seq, [[id, dispatch_seq], ...]]`.
    """
    try:
        first, rest = arguments[0], arguments[1] if len(arguments) > 1 else []
        return [_hint(task_id, first), *(_hint(*one) for one in rest)]
    except (TypeError, ValueError, AttributeError, IndexError, KeyError):
        return []


def _hint(task_id: Any, dispatch_seq: Any) -> tuple[uuid.UUID, int]:
    if not isinstance(dispatch_seq, int):
        raise TypeError(dispatch_seq)
    return uuid.UUID(task_id), dispatch_seq
