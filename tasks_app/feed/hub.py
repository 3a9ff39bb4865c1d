"""The hub: one task per process that follows the feed and hands events to its subscriptions.

Nothing is read while nobody subscribes. A notification of the relay wakes it, a look every second
stands in for a lost one. It holds one connection, and a second one while somebody catches up; no
subscription holds any. A lost database only delays: the place reached is kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
from psycopg.rows import dict_row

from tasks_app.db import connection_parameters
from tasks_app.errors import RateLimited
from tasks_app.feed.event import FeedEvent, feed_event
from tasks_app.feed.reading import BOUNDS, PAGE, PAGE_OF_TASKS, FeedBounds
from tasks_app.feed.subscription import (
    FeedClosed,
    FeedReset,
    KeyNotInForce,
    Subscription,
    SubscriptionEnded,
    Wanted,
)
from tasks_app.metrics import EVENTS_HANDED_OUT
from tasks_app.telemetry import logger

PAGE_EVENTS: Final = 200
REPLAY_EVENTS: Final = 1000
POLL_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 5.0
KEYS_SECONDS: Final = 15.0
FIRST_BACKOFF: Final = 0.05
LONGEST_BACKOFF: Final = 2.0
_KEYS: Final = """
SELECT k.id FROM taskmill_api_key k JOIN taskmill_tenant t ON t.id = k.tenant_id
WHERE k.id = ANY(%s) AND k.revoked_at IS NULL AND t.is_active
  AND (k.expires_at IS NULL OR k.expires_at > taskmill_now())
"""
_log = logger(__name__)

Connection = psycopg.AsyncConnection[Any]


class FeedHub:
    """The subscriptions of one event loop."""

    def __init__(self) -> None:
        self._open: set[Subscription] = set()
        self._per_holder: Counter[str] = Counter()
        self._of_task: defaultdict[uuid.UUID, set[Subscription]] = defaultdict(set)
        self._of_tenant: defaultdict[int, set[Subscription]] = defaultdict(set)
        self._position: int | None = None
        self._started = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._replays = _Replays()
        self._is_closed = False

    @property
    def subscriptions(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def is_closed(self) -> bool:
        """Whether the process stops: what ends with `FeedClosed` now may go on elsewhere."""
        return self._is_closed

    @property
    def entries(self) -> int:
        """How many places hold a live subscription; 0 when nobody subscribes."""
        held = (*self._of_task.values(), *self._of_tenant.values())
        return sum(map(len, held)) + len(self._of_task) + len(self._of_tenant)

    def count(self, holder: str) -> int:
        """Say how many subscriptions a holder has."""
        return self._per_holder[holder]

    def open(
        self, wanted: Wanted, *, after: int, holder: str, most: int, key_id: str = ""
    ) -> Subscription:
        """Give a subscription to everything wanted after a cursor; an async context manager.

        Args:
            after: a sequence; check it with `FeedBounds.has` first.
            holder: who is charged with it.
            most: how many the holder may have.
            key_id: the API key that it ends with, "" for none.

        Raises:
            RateLimited: the holder has too many.
            FeedClosed: the process stops.
        """
        if self._is_closed:
            raise FeedClosed(cursor=after)
        if self._per_holder[holder] >= most:
            raise RateLimited(f"{most} streams are open; close one first", retry_after=5)
        subscription = Subscription(self, wanted, after=after, holder=holder, key_id=key_id)
        self._open.add(subscription)
        self._per_holder[holder] += 1
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=contextvars.Context())
        return subscription

    async def started(self) -> None:
        """Return when the hub knows where the feed ends."""
        await self._started.wait()

    async def read(self, wanted: Wanted, after: int) -> tuple[list[FeedEvent], int]:
        """Give the wanted events of a page up to where the hub is; see `Source.read`."""
        until = self._position
        if until is None:  # the hub has just lost its place; it finds it anew
            return [], after
        return await self._replays.read(wanted, after, until)

    def join(self, subscription: Subscription, after: int) -> bool:
        """Hand over live events from now on; see `Source.join`."""
        if self._position is None or after < self._position:
            return False
        for entries, key in self._places(subscription):
            entries[key].add(subscription)
        return True

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription; may be repeated."""
        if subscription not in self._open:
            return
        self._open.discard(subscription)
        self._per_holder[subscription.holder] -= 1
        self._per_holder += Counter()
        for entries, key in self._places(subscription):
            entries[key].discard(subscription)
            if not entries[key]:
                del entries[key]

    def close(self) -> None:
        """End all subscriptions and open none again: the process stops."""
        self._is_closed = True
        self._end(self._open, FeedClosed())

    def end_key(self, key_id: str) -> None:
        """End the subscriptions of a key now, not at the next look at all keys."""
        self._end((one for one in self._open if one.key_id == key_id), KeyNotInForce())

    def _places(
        self, subscription: Subscription
    ) -> Iterable[tuple[defaultdict[Any, set[Subscription]], Any]]:
        wanted = subscription.wanted
        if wanted.tasks:
            return [(self._of_task, task_id) for task_id in wanted.tasks]
        return [(self._of_tenant, wanted.tenant_id)]

    @staticmethod
    def _end(subscriptions: Iterable[Subscription], reason: SubscriptionEnded) -> None:
        for subscription in tuple(subscriptions):
            subscription.end(reason)

    async def _run(self) -> None:
        backoff = FIRST_BACKOFF
        while self._open:
            try:
                async with _connection("feed") as connection:
                    backoff = FIRST_BACKOFF
                    await self._follow(connection)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                _log.warning("the feed hub lost the database", error=str(error).split("\n")[0])
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)
        self._task = None
        self._position = None
        self._started.clear()
        await self._replays.close()

    async def _follow(self, connection: Connection) -> None:
        """Hand out what is new until nobody has subscribed for a while."""
        clock = asyncio.get_running_loop().time
        await connection.execute("LISTEN taskmill_feed")
        idle_since, keys_at = clock(), clock() + KEYS_SECONDS
        while self._open or clock() - idle_since < IDLE_SECONDS:
            if self._open:
                idle_since = clock()
            await self._catch_up(connection)
            if clock() >= keys_at:
                keys_at = clock() + KEYS_SECONDS
                await self._end_revoked(connection)
            async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                pass

    async def _catch_up(self, connection: Connection) -> None:
        last = (await _bounds(connection)).last
        if self._position is None or last < self._position:
            if self._position is not None:
                self._end(self._open, FeedReset())
            self._position = last
            self._started.set()
        while self._position < last:
            until = min(self._position + PAGE_EVENTS, last)
            values = {"after": self._position, "until": until, "tenant": None}
            for event in await _events(connection, PAGE, values):
                self._hand_out(event)
            self._position = until
            await asyncio.sleep(0)

    def _hand_out(self, event: FeedEvent) -> None:
        takers = 0
        for entries in self._interested(event):
            for subscription in entries:
                if subscription.wanted.takes(event):
                    subscription.push(event)
                    takers += 1
        EVENTS_HANDED_OUT.inc(takers)

    def _interested(self, event: FeedEvent) -> Iterable[Iterable[Subscription]]:
        """Give who may want an event; one of the installation may be for any tenant."""
        if event.tenant_id is None:
            return self._of_tenant.values()
        if event.task_id is None:
            return (self._of_tenant.get(event.tenant_id, ()),)
        return self._of_task.get(event.task_id, ()), self._of_tenant.get(event.tenant_id, ())

    async def _end_revoked(self, connection: Connection) -> None:
        keys = {one.key_id for one in self._open if one.key_id}
        if not keys:
            return
        cursor = await connection.execute(_KEYS, [sorted(keys)])
        gone = keys - {row["id"] for row in await cursor.fetchall()}
        self._end((one for one in self._open if one.key_id in gone), KeyNotInForce())


class _Replays:
    """Reads for those that catch up, one at a time, on one connection."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    async def read(self, wanted: Wanted, after: int, until: int) -> tuple[list[FeedEvent], int]:
        async with self._lock:
            connection = await self._connected()
            if not (await _bounds(connection)).has(after):
                raise FeedReset(cursor=after)
            if wanted.tasks:
                return await _page_of_tasks(connection, wanted, after, until)
            until = min(after + REPLAY_EVENTS, until)
            values = {"after": after, "until": until, "tenant": wanted.tenant_id}
            found = await _events(connection, PAGE, values)
            return [event for event in found if wanted.takes(event)], until

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await _connect("replay")
        return self._connection

    async def close(self) -> None:
        async with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()


async def _page_of_tasks(
    connection: Connection, wanted: Wanted, after: int, until: int
) -> tuple[list[FeedEvent], int]:
    values = {
        "tasks": list(wanted.tasks),
        "tenant": wanted.tenant_id,
        "after": after,
        "until": until,
        "limit": REPLAY_EVENTS,
    }
    found = await _events(connection, PAGE_OF_TASKS, values)
    reached = found[-1].sequence if len(found) == REPLAY_EVENTS else until
    return [event for event in found if wanted.takes(event)], reached


async def _bounds(connection: Connection) -> FeedBounds:
    cursor = await connection.execute(BOUNDS)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate row
    return FeedBounds(row["first"], row["last"])


async def _events(connection: Connection, query: str, values: dict[str, Any]) -> list[FeedEvent]:
    cursor = await connection.execute(query, values)
    return [feed_event(row) for row in await cursor.fetchall()]


async def _connect(role: str) -> Connection:
    return await psycopg.AsyncConnection.connect(
        **connection_parameters(),
        autocommit=True,
        prepare_threshold=1,
        row_factory=dict_row,
        application_name=f"taskmill-{role}",
        options="-c statement_timeout=30000",
    )


@asynccontextmanager
async def _connection(role: str) -> AsyncIterator[Connection]:
    connection = await _connect(role)
    try:
        yield connection
    finally:
        await connection.close()


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, FeedHub] = WeakKeyDictionary()


def feed_hub() -> FeedHub:
    """Give the hub of the running event loop; the first call has it closed at SIGTERM, SIGINT."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        hub = _hubs[loop] = FeedHub()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                _close_at(number, loop, hub)
    return hub


def _close_at(number: int, loop: asyncio.AbstractEventLoop, hub: FeedHub) -> None:
    """Close the hub before the server's own handler waits for the open streams to end."""
    before = signal.getsignal(number)
    if not callable(before):
        return

    def on_signal(received: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(hub.close)
        before(received, frame)

    signal.signal(number, on_signal)
