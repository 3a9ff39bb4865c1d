"""Which requests wait in a worker for a slot, and what is done where none goes for long.

A worker whose slots are all held by long attempts would keep its part of the hints while others
have slots for them: round robin deals it every second message. So what has waited while nothing
went for `TASKMILL_HELD_UP_SECONDS` is handed back, and so is at once what comes until a slot takes
something again. The messages of the latter stay unacknowledged: the broker counts them, and once
there are as many as the prefetch count the worker is given no more.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from tasks_app.clock import monotonic
from tasks_app.conf import conf

if TYPE_CHECKING:
    from tasks_app.execution.request import PlatformRequest

MOST_DROPPED: Final = 50
"""Requests without hints that are dropped in a row: Celery calls itself for each."""


class Slots:
    """Whether the pool takes requests. Touched by Celery's loop, and at the end of the worker."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[PlatformRequest]] = {}
        self._since = monotonic()
        self._dropped = 0
        self._is_look_due = False

    def wait(self, request: PlatformRequest) -> None:
        """Note that a request came; it waits for a slot."""
        if not any(self._waiting.values()):
            self._since = monotonic()
        self._waiting.setdefault(request.type, []).append(request)

    def has(self, request: PlatformRequest) -> bool:
        """Say whether a request waits."""
        return request in self._waiting.get(request.type, ())

    def last(self, task_type: str) -> PlatformRequest | None:
        """Give the request of a type that came last, of those that wait."""
        waiting = self._waiting.get(task_type)
        return waiting[-1] if waiting else None

    def go(self, request: PlatformRequest) -> None:
        """Note that there is a slot for a request, or that it is not wanted."""
        if self.has(request):
            self._waiting[request.type].remove(request)
        self._since = monotonic()

    def forget(self, *types: str) -> list[PlatformRequest]:
        """Let go of what waits, of some types or of all, and give it."""
        return [
            request
            for one in types or tuple(self._waiting)
            for request in self._waiting.pop(one, ())
        ]

    def are_taken(self) -> bool:
        """Say whether something waits and nothing went for long."""
        return any(self._waiting.values()) and self._seconds_left() <= 0

    def _seconds_left(self) -> float:
        return self._since + conf().held_up_seconds - monotonic()

    def may_drop(self) -> bool:
        """Count a request that is dropped; False where many were without a pause."""
        self._dropped = (self._dropped + 1) % MOST_DROPPED
        return self._dropped > 0

    def look_later(self, hub: Any) -> None:
        """Look at what waits once that may have been long."""
        if not self._is_look_due:
            self._is_look_due = True
            hub.call_later(max(self._seconds_left(), 0.0), self._look, hub)

    def _look(self, hub: Any) -> None:
        self._is_look_due = False
        if self.are_taken():
            for request in chain.from_iterable(self._waiting.values()):
                request.hand_back()
        elif any(self._waiting.values()):
            self.look_later(hub)


slots = Slots()
