"""The attempts that one message brings: claimed in one statement, run one after the other, their
successes written together.

Each keeps its own epoch, deadline, cancel and history; only statements are shared. What is claimed
waits for those before it, so it must not wait long: members that have not begun a second after the
claim are handed back, by the child's main thread between two of them, or by its flusher while one
runs. The slot table says what a child holds, for the day that it dies.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.execution.connection import BROKEN
from tasks_app.execution.finish import write_successes
from tasks_app.telemetry import logger
from tasks_app.transitions import Claim, Success

if TYPE_CHECKING:
    from tasks_app.execution.child import Child

WRITE_SECONDS: Final = 0.02
"""A success is written at most so long after it, where others of its bundle still run."""

WRITE_CHARACTERS: Final = 1_000_000
"""Results of more are written before the next task runs."""

HELD_UP_SECONDS: Final = 1.0
"""Less than the grace of a timeout: that of the store counts from the claim, the worker's from the
call."""

T = TypeVar("T")

log = logger(__name__)


class ClaimedBundle:
    """Claims in their order, what is still to run of them, and the successes not yet written.

    Args:
        claims: at least one, of different tasks.
        asked_at: monotonic seconds before the claim was asked for; its leases count from there.
    """

    def __init__(self, child: Child, claims: Sequence[Claim], *, asked_at: float) -> None:
        self.asked_at = asked_at
        self.answered_at = monotonic()
        self._child = child
        self._first: Claim | None = claims[0]
        self._waiting = deque(claims[1:])
        self._ended: deque[Success] = deque()
        self._ended_at = 0.0
        self._ended_size = 0
        self._writing = threading.Lock()
        self._is_over = False
        lease = conf().lease_seconds
        self._old_at = min(self.answered_at + HELD_UP_SECONDS, asked_at + lease / 3)
        child.table.publish_members(child.index, [(one.id, one.epoch) for one in claims])
        if self._waiting:
            child.flusher.bell.put(self)

    def take(self) -> Claim | None:
        """Give the next to run; None at the end, or where the rest was handed back."""
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._ended and (
            monotonic() - self._ended_at >= WRITE_SECONDS or self._ended_size > WRITE_CHARACTERS
        ):
            self._write()
        if self._child.table.is_stopping:
            self._hand_back("worker_shutdown")
        elif monotonic() > self._old_at:
            self._hand_back("held_up")
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def end(self, success: Success) -> None:
        """Take a success; it is written with others."""
        if not self._ended:
            self._ended_at, self._ended_size = monotonic(), 0
        self._ended_size += len(success.result)
        self._ended.append(success)

    def finish(self) -> None:
        """Write what is left; nothing is held any more."""
        self._is_over = True
        self._write()
        self._child.table.publish_members(self._child.index, [])

    def flush(self) -> float | None:
        """Do what is due while a member runs; gives the seconds until more is, None at the end.

        Called by the flusher's thread.
        """
        if self._is_over:
            return None
        now = monotonic()
        if self._ended and now - self._ended_at >= WRITE_SECONDS:
            self._write()
        if now > self._old_at:
            self._hand_back("held_up")
        return WRITE_SECONDS if self._waiting or self._ended else None

    def _write(self) -> None:
        """Write the successes so far; where the database stays away they are left to the rescue."""
        with self._writing:
            ended = _all_of(self._ended)
            if not ended:
                return
            try:
                write_successes(self._child.connection, ended, worker=self._child.worker)
            except BROKEN as error:
                log.warning(
                    "attempts left to the rescue", reason=str(error)[:200], tasks=len(ended)
                )

    def _hand_back(self, reason: str) -> None:
        held = [(one.id, one.epoch) for one in _all_of(self._waiting)]
        if not held:
            return
        hand_back(self._child, held, reason=reason)
        log.info("attempts not begun are handed back", tasks=len(held), reason=reason)


def hand_back(child: Child, held: Sequence[tuple[uuid.UUID, int]], *, reason: str) -> None:
    """Give attempts back that this child holds and will not make, else they are rescued."""
    try:
        child.connection.run(lambda cursor: transitions.interrupt(cursor, held, reason=reason))
    except BROKEN as error:
        log.warning("attempts left to the rescue", reason=str(error)[:200], tasks=len(held))


def _all_of(waiting: deque[T]) -> list[T]:
    """Take everything; another thread may take at the same time, each gets an item once."""
    taken: list[T] = []
    while True:
        try:
            taken.append(waiting.popleft())
        except IndexError:
            return taken
