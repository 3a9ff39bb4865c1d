"""A message of hints in the worker's main process: Celery's request of a platform task, and the
strategy that takes messages in.

Messages whose tasks may go together do not wait for a slot one behind the other: the first that
waits takes in those that come after it, and they are one request to the pool. So a trickle of short
tasks costs a claim and a write for each request, not for each message. A request goes to a free
slot once the messages that came with it are read; nothing waits for those that have not come.

A worker whose slots take nothing for a second is held up: it hands back what waits, and keeps the
messages that come then unacknowledged, so that the broker soon gives what is left to others.
Source: docs/adr/0019-bundles.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined]  # stubs lack it
from celery.exceptions import Retry
from celery.utils.log import get_logger
from celery.worker.request import Request
from celery.worker.state import revoked as revoked_ids
from celery.worker.state import task_ready
from celery.worker.strategy import default
from kombu.asynchronous import get_event_loop
from typing_extensions import override

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.execution.acks import acks
from tasks_app.execution.held_up import slots
from tasks_app.execution.orders import orders
from tasks_app.hints import TOGETHER, read_body, read_hints, write_hints
from tasks_app.telemetry import logger

log = logger(__name__)
celery_log = get_logger(__name__)

MOST_TURNS: Final = 20
"""Turns of the loop, so messages, for which a request waits at most: some milliseconds."""

TURN_SECONDS: Final = 0.0005
"""Such a turn is that long where nothing more comes."""

AT_ONCE_SECONDS: Final = 0.002
"""Messages that follow one another so closely come at once."""


class AttemptFailed(Exception):
    """An attempt failed; its row and history say how. Shown by Flower, stored by nobody."""


class PlatformRequest(Request):
    """A message of hints, with those that joined it.

    The row decides on the end of a task, so nothing is stored or reported here.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self.hints = read_hints(self.id, self.args)
        self._most = min(int(message.headers.get(TOGETHER) or 1), conf().bundle_most)
        self._is_rewritten = False
        self._is_handed_back = False
        self._may_grow = self._most > len(self.hints) > 0
        is_held_up = slots.are_taken()
        slots.wait(self)
        if is_held_up:
            self.hand_back()
        elif self._may_grow:
            self.acknowledge()

    @property
    @override
    def body(self) -> Any:
        """What the pool child reads."""
        return write_hints(self.hints) if self._is_rewritten else super().body

    def join(self, message: Any) -> bool:
        """Take the hints of a later message in; False where it has to go on its own."""
        headers = message.headers
        most = min(self._most, int(headers.get(TOGETHER) or 1))
        hints = read_body(headers["id"], message.body)
        has_room = len(self.hints) + len(hints) <= most
        if not (self._may_grow and hints and has_room) or headers["id"] in revoked_ids:
            return False
        self.hints += hints
        self._is_rewritten = True
        return True

    @property
    def is_open(self) -> bool:
        """Whether others may join it: it waits here, and was not handed back."""
        return self._may_grow and slots.has(self)

    def hand_back(self) -> None:
        """Return the hints, to be handed out anew."""
        orders().return_hints(self.hints)
        self.hints, self._may_grow, self._is_handed_back = [], False, True

    @override
    def revoked(self) -> bool:
        """Turn `AsyncResult.revoke()` of platform tasks into requests to cancel them.

        Celery asks when the request is about to go to the pool: from here on nothing joins it.
        One that was handed back is dropped.
        """
        slots.go(self)
        if self._is_handed_back:
            return self._is_dropped()
        if not revoked_ids:
            return False
        gone = {task_id for task_id, _ in self.hints if str(task_id) in revoked_ids}
        for task_id in gone:
            orders().cancel(task_id)
        rest = [hint for hint in self.hints if hint[0] not in gone]
        if self.id not in revoked_ids:
            self.hints, self._is_rewritten = rest, bool(gone) or self._is_rewritten
            return False
        orders().return_hints(rest)
        self.acknowledge()
        task_ready(self)
        return True

    def _is_dropped(self) -> bool:
        """Drop it; where many were dropped in a row, have a child see that it says nothing."""
        if not slots.may_drop():
            self._is_rewritten = True
            return False
        self.acknowledge()
        task_ready(self)
        return True

    @override
    def on_failure(self, exc_info: Any, *_: Any, **__: Any) -> None:
        """Tell those who watch Celery's events how the attempt ended.

        A dead child, and what else it held, is the business of the child that takes its place.
        """
        task_ready(self)
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, Retry):
            self.send_event("task-retried", exception=str(error.exc or error), traceback="")
        elif isinstance(error, AttemptFailed):
            self.send_event("task-failed", exception=str(error), traceback="")
        log.debug("hint ended with an exception", task_id=self.id, reason=str(error))

    @override
    def on_timeout(self, soft: bool, _timeout: float) -> None:
        """Do nothing: the process timeout is the lease keeper's."""

    @override
    def terminate(self, _pool: Any, signal: Any = None) -> None:
        """Turn `AsyncResult.revoke(terminate=True)` into a request to cancel the task."""
        orders().cancel(self.id)

    @override
    def cancel(self, _pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Do nothing: losing the broker does not stop an attempt."""


class _Arrivals:
    """When messages come, by the monotonic clock.

    Attributes:
        gap_seconds: between the last one and the one before it.
    """

    def __init__(self) -> None:
        self._last = -inf
        self.gap_seconds = inf

    def note(self) -> None:
        now = monotonic()
        self.gap_seconds, self._last = now - self._last, now


_arrivals = _Arrivals()


def take_in(process: Callable[[Request], None], request: Request) -> None:
    """Have a request wait for a slot once all messages that have come with it are read: those that
    may join it do. One that comes alone waits for nothing.

    Args:
        process: Celery's way from here to the pool.
    """
    hub = get_event_loop()
    if hub is None or not isinstance(request, PlatformRequest):
        process(request)
        return
    slots.look_later(hub)
    if request.is_open:
        turn = TURN_SECONDS if _arrivals.gap_seconds < AT_ONCE_SECONDS else 0
        known = len(request.hints)
        hub.call_later(turn, _process_later, hub, process, request, known, MOST_TURNS)
    else:
        process(request)


def _process_later(
    hub: Any, process: Callable[[Request], None], request: PlatformRequest, known: int, turns: int
) -> None:
    """Go on where nothing has joined in the last turn of the loop. Where the hints were handed back
    meanwhile the request is dropped on its way: it must not be taken for one that waits.

    What is due at once runs in the next turn before the loop looks for events; `call_soon` would
    wait for one of those, up to a second.
    """
    if request.is_open and len(request.hints) > known and turns:
        known = len(request.hints)
        hub.call_later(TURN_SECONDS, _process_later, hub, process, request, known, turns - 1)
    else:
        process(request)


def strategy(task: Any, app: Any, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Give what takes the messages of a task type in; Celery asks for it at every connection.

    With a lost connection Celery forgets the requests that wait.
    """
    hand_back_waiting(task.name)
    take = default(task, app, consumer, **options)

    def receive(
        message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **more: Any
    ) -> None:
        _arrivals.note()
        ack = acks.of(message, ack)
        last = slots.last(task.name)
        if last is not None and not slots.are_taken() and last.join(message):
            ack(celery_log, consumer.connection_errors)
        else:
            take(message, body, ack, reject, callbacks, **more)

    return receive


def hand_back_waiting(*types: str) -> None:
    """Return the hints of requests that will not go to the pool, of some types or of all, where the
    broker does not keep their messages.
    """
    for request in slots.forget(*types):
        if request.acknowledged:
            request.hand_back()
