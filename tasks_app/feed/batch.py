"""Events that several subscribers are given together: what is the same for all is made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from tasks_app.feed.event import FeedEvent

MOST_FORMS: Final = 8
"""A batch may wait in the buffer of a slow subscriber: it keeps no more encodings than these."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Events in feed order, shared by all who get just these."""

    events: tuple[FeedEvent, ...]
    _forms: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def size_bytes(self) -> int:
        """What its events take, encoded."""
        return sum(len(event.json) for event in self.events)

    def form(self, name: Hashable, make: Callable[[tuple[FeedEvent, ...]], T]) -> T:
        """Give what was made of the events under this name, or make it.

        Args:
            make: depends on the events and the name alone.
        """
        found: T | None = self._forms.get(name)
        if found is None:
            found = make(self.events)
            if len(self._forms) < MOST_FORMS:
                self._forms[name] = found
        return found

    def after(self, cursor: int) -> Batch:
        """Give the events after a cursor: itself where that is all."""
        if not self.events or self.events[0].sequence > cursor:
            return self
        return Batch(tuple(event for event in self.events if event.sequence > cursor))


NO_EVENTS: Final = Batch(())
