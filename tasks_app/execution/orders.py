"""Orders from Celery's main loop to the lease keeper's thread.

Which owns the database connection of the main process.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Somebody revoked the Celery task of this id."""

    task_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class HandBackOrder:
    """A hint came for a type that this worker does not know."""

    task_id: uuid.UUID
    dispatch_seq: int
    task_type: str


@dataclass(frozen=True, slots=True)
class ReturnOrder:
    """A message will not be run, or not all of it: what nobody claimed goes back."""

    hints: tuple[tuple[uuid.UUID, int], ...]


Order = CancelOrder | HandBackOrder | ReturnOrder


class Bell:
    """Wakes the lease keeper from its wait; rung from any thread, before or during the wait."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)

    def ring(self) -> None:
        """Wake it."""
        with contextlib.suppress(BlockingIOError):
            self._writing.send(b"1")

    def wait(self, other: int, seconds: float) -> None:
        """Wait until rung, until the file `other` can be read, or for some seconds."""
        select.select([self._reading.fileno(), other], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(4096)


class Orders:
    """A queue of orders; ids that are no UUIDs belong to ordinary Celery tasks and are ignored."""

    def __init__(self) -> None:
        self.bell = Bell()
        self._waiting: queue.SimpleQueue[Order] = queue.SimpleQueue()

    def cancel(self, task_id: object) -> None:
        """Ask for a task's cancellation."""
        known = _as_uuid(task_id)
        if known is not None:
            self._waiting.put(CancelOrder(known))
            self.bell.ring()

    def hand_back(self, task_id: object, dispatch_seq: int, task_type: str) -> None:
        """Ask for a hint to be handed back."""
        known = _as_uuid(task_id)
        if known is not None:
            self._waiting.put(HandBackOrder(known, dispatch_seq, task_type))
            self.bell.ring()

    def return_hints(self, hints: Sequence[tuple[uuid.UUID, int]]) -> None:
        """Ask for the hints of a message to be taken back, as far as nobody claimed them."""
        if hints:
            self._waiting.put(ReturnOrder(tuple(hints)))
            self.bell.ring()

    def take(self) -> list[Order]:
        """Give what waits."""
        taken = []
        while not self._waiting.empty():
            taken.append(self._waiting.get())
        return taken


def _as_uuid(value: object) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


@cache
def orders() -> Orders:
    """Give this process's queue."""
    return Orders()
