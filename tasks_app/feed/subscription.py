"""One subscriber: what it wants, and the bounded buffer between the hub and its transport."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from tasks_app.errors import TaskmillError
from tasks_app.events import EventType
from tasks_app.feed.batch import NO_EVENTS, Batch
from tasks_app.feed.event import PUBLIC_EVENTS, FeedEvent
from tasks_app.metrics import SLOW_SUBSCRIBERS

MOST_EVENTS: Final = 1000
MOST_BYTES: Final = 1_048_576


class SubscriptionEnded(TaskmillError):
    """The subscription is over; open it again after the cursor that was reached."""

    code = "subscription_ended"


class SlowSubscriber(SubscriptionEnded):
    """The subscriber takes events more slowly than they come."""

    code = "slow_subscriber"


class FeedClosed(SubscriptionEnded):
    """This process serves no more subscriptions, or the subscriber's key is not in force."""

    code = "feed_closed"


class KeyNotInForce(FeedClosed):
    """The API key that the subscription was opened with is revoked, expired or its tenant off."""

    code = "key_not_in_force"


class FeedReset(SubscriptionEnded):
    """The cursor is not in the feed; begin with a snapshot."""

    code = "feed_reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events a subscriber wants: of its tenant, and fitting all that is named.

    Events of the installation have types of their own, which nobody gets without naming them, and
    which only some may name: `begin_watching` sees to that.

    Attributes:
        tasks: of these tasks; empty for all.
        tags: of tasks that have one of these now; empty for all.
        types: event types; empty for those of tasks that are not inner steps.
    """

    tenant_id: int
    tasks: frozenset[uuid.UUID] = frozenset()
    tags: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()

    def takes(self, event: FeedEvent) -> bool:
        """Say whether an event is wanted."""
        return (
            event.tenant_id in {self.tenant_id, None}
            and event.type in (self.types or PUBLIC_EVENTS)
            and (not self.tasks or event.task_id in self.tasks)
            and (not self.tags or not self.tags.isdisjoint(event.tags))
        )


class Source(Protocol):
    """What a subscription needs of its hub."""

    async def started(self) -> None:
        """Return when the hub knows where the feed ends."""

    async def read(self, wanted: Wanted, after: int) -> tuple[list[FeedEvent], int]:
        """Give the wanted events of a page after a cursor, and the cursor to go on from."""

    def join(self, subscription: Subscription, after: int) -> bool:
        """Send live events from now on, if the cursor is where the hub is, or further."""

    def leave(self, subscription: Subscription) -> None:
        """Send nothing more."""


class Subscription:
    """Events after a cursor: first from the table, then live; made by `FeedHub.open`.

    Used by one coroutine. Leaving the context frees everything at once. `on_end` is called when the
    hub ends it, for transports that may hang in a send just then.
    """

    def __init__(self, source: Source, wanted: Wanted, *, after: int, holder: str, key_id: str):
        self.wanted = wanted
        self.holder = holder
        self.key_id = key_id
        self.cursor = after
        self.on_end: Callable[[], object] = bool
        self._source = source
        self._is_live = False
        self._buffer: deque[Batch] = deque()
        self._size_events = self._size_bytes = 0
        self._ended: SubscriptionEnded | None = None
        self._ready = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Free everything, also of a subscription that was never entered; may be repeated."""
        self._source.leave(self)
        self._buffer.clear()

    async def next(self, within_seconds: float) -> Batch:
        """Give the next wanted events, in feed order; none when the time is over.

        Raises:
            SlowSubscriber, FeedClosed, FeedReset: it is over; `cursor` says what was reached.
        """
        if not self._is_live:
            try:
                async with asyncio.timeout(within_seconds):
                    while not self._is_live:
                        if found := await self._replay():
                            return Batch(tuple(found))
            except TimeoutError:
                return NO_EVENTS
        if not self._ready.is_set():  # a timer alone: it is cheaper than a timeout, at each batch
            loop = asyncio.get_running_loop()
            timer = loop.call_later(within_seconds, self._ready.set)
            try:
                await self._ready.wait()
            finally:
                timer.cancel()
        return self._take()

    async def _replay(self) -> list[FeedEvent]:
        """Read a page; join the live events where none is left."""
        if self._ended is not None:
            raise self._ended
        await self._source.started()
        if self._source.join(self, self.cursor):
            self._is_live = True
            return []
        found, self.cursor = await self._source.read(self.wanted, self.cursor)
        return found

    def _take(self) -> Batch:
        if self._ended is not None:
            raise self._ended
        if not self._buffer:
            self._ready.clear()
            return NO_EVENTS
        taken = self._buffer.popleft()
        self._size_events -= len(taken.events)
        self._size_bytes -= taken.size_bytes
        if not self._buffer:
            self._ready.clear()
        self.cursor = taken.events[-1].sequence
        return taken

    def push(self, batch: Batch) -> None:
        """Add wanted live events; a full buffer keeps the newest progress of each task."""
        batch = batch.after(self.cursor)
        if self._ended is not None or not batch.events:
            return
        self._keep(batch)
        if self._is_full():
            kept = _coalesced(event for one in self._buffer for event in one.events)
            self._buffer.clear()
            self._size_events = self._size_bytes = 0
            self._keep(kept)
            if self._is_full():
                SLOW_SUBSCRIBERS.inc()
                self.end(SlowSubscriber(cursor=self.cursor))
        self._ready.set()

    def _keep(self, batch: Batch) -> None:
        self._buffer.append(batch)
        self._size_events += len(batch.events)
        self._size_bytes += batch.size_bytes

    def end(self, reason: SubscriptionEnded) -> None:
        """Have `next` raise this; what is buffered is dropped."""
        if self._ended is None:
            self._ended = reason
            self._buffer.clear()
            self._ready.set()
            self.on_end()

    @property
    def ended_by(self) -> SubscriptionEnded | None:
        """What `next` will raise; None while it is open."""
        return self._ended

    @property
    def is_ended(self) -> bool:
        """Whether `next` will raise."""
        return self._ended is not None

    def _is_full(self) -> bool:
        return self._size_events > MOST_EVENTS or self._size_bytes > MOST_BYTES


def _coalesced(events: Iterable[FeedEvent]) -> Batch:
    """Leave out progress that newer progress of the same task follows."""
    kept: list[FeedEvent] = []
    newer: set[uuid.UUID | None] = set()
    for event in reversed(list(events)):
        if event.type == EventType.PROGRESS:
            if event.task_id in newer:
                continue
            newer.add(event.task_id)
        kept.append(event)
    kept.reverse()
    return Batch(tuple(kept))
