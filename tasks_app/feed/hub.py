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
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from types import FrameType
from typing import Final
from weakref import WeakKeyDictionary

import psycopg

from tasks_app.errors import RateLimited
from tasks_app.feed.audiences import EVERYTHING, Audiences
from tasks_app.feed.event import FeedEvent
from tasks_app.feed.pace import SHORT_REST_SECONDS, Look, next_rest
from tasks_app.feed.reading import PAGE
from tasks_app.feed.replay import Connection, Replays, bounds, connected, events
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

PAGE_EVENTS: Final = 500
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


class FeedHub:
    """The subscriptions of one event loop."""

    def __init__(self) -> None:
        self._open: set[Subscription] = set()
        self._per_holder: Counter[str] = Counter()
        self._audiences = Audiences()
        self._position: int | None = None
        self._started = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._replays = Replays()
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
        return self._audiences.entries

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
        self._audiences.join(subscription)
        return True

    def leave(self, subscription: Subscription) -> None:
        """Forget a subscription; may be repeated."""
        if subscription not in self._open:
            return
        self._open.discard(subscription)
        self._per_holder[subscription.holder] -= 1
        self._per_holder += Counter()
        self._audiences.leave(subscription)

    def close(self) -> None:
        """End all subscriptions and open none again: the process stops."""
        self._is_closed = True
        self._end(self._open, FeedClosed())

    def end_key(self, key_id: str) -> None:
        """End the subscriptions of a key now, not at the next look at all keys."""
        self._end((one for one in self._open if one.key_id == key_id), KeyNotInForce())

    @staticmethod
    def _end(subscriptions: Iterable[Subscription], reason: SubscriptionEnded) -> None:
        for subscription in tuple(subscriptions):
            subscription.end(reason)

    async def _run(self) -> None:
        backoff = FIRST_BACKOFF
        try:
            while self._open:
                try:
                    async with connected("feed") as connection:
                        backoff = FIRST_BACKOFF
                        await self._follow(connection)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    _log.warning("the feed hub lost the database", error=str(error).split("\n")[0])
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, LONGEST_BACKOFF)
                except Exception:  # noqa: BLE001 - nor are subscribers left alone by a fault
                    _log.exception("the feed hub failed, and begins anew where it was")
                    await asyncio.sleep(LONGEST_BACKOFF)
        finally:
            self._task = None
            self._position = None
            self._started.clear()
            await self._replays.close()

    async def _follow(self, connection: Connection) -> None:
        """Hand out what is new until nobody has subscribed for a while."""
        clock = asyncio.get_running_loop().time
        await connection.execute("LISTEN taskmill_feed")
        idle_since, keys_at = clock(), clock() + KEYS_SECONDS
        last = (await bounds(connection)).last
        rest, waited = SHORT_REST_SECONDS, POLL_SECONDS
        while self._open or clock() - idle_since < IDLE_SECONDS:
            if self._open:
                idle_since = clock()
            look = await self._catch_up(connection, last)
            rest = next_rest(rest, look, waited_seconds=waited)
            if clock() >= keys_at:
                keys_at = clock() + KEYS_SECONDS
                await self._end_revoked(connection)
            await asyncio.sleep(rest)
            rested_at = clock()
            last = max([_end_told(one) async for one in _news(connection)], default=0)
            if last <= (self._position or 0):  # nothing, or of a feed that began anew
                last = (await bounds(connection)).last
            waited = clock() - rested_at

    async def _catch_up(self, connection: Connection, last: int) -> Look:
        """Hand out everything up to the end of the feed."""
        if self._position is None or last < self._position:
            if self._position is not None:
                self._end(self._open, FeedReset())
            self._position = last
            self._started.set()
        begun_at, wakings = self._position, 0
        while self._position < last:
            until = min(self._position + PAGE_EVENTS, last)
            found = await self._page(connection, self._position, until)
            given = self._audiences.hand_out(found)
            EVENTS_HANDED_OUT.inc(given.events)
            wakings += given.subscriptions
            self._position = until
            await asyncio.sleep(0)
        return Look(events=last - begun_at, wakings=wakings)

    async def _page(self, connection: Connection, after: int, until: int) -> list[FeedEvent]:
        """Read what somebody may want of (after, until].

        Who joined during the read may want what it left out: then it is read again, whole.
        """
        values = {"after": after, "until": until, "tenant": None}
        reach = self._audiences.reach
        wanted = {"types": reach.types, "tasks": reach.tasks}
        found = await events(connection, PAGE, values | wanted)
        if self._audiences.reach == reach:
            return found
        wanted = {"types": EVERYTHING.types, "tasks": EVERYTHING.tasks}
        return await events(connection, PAGE, values | wanted)

    async def _end_revoked(self, connection: Connection) -> None:
        keys = {one.key_id for one in self._open if one.key_id}
        if not keys:
            return
        cursor = await connection.execute(_KEYS, [sorted(keys)])
        gone = keys - {row["id"] for row in await cursor.fetchall()}
        self._end((one for one in self._open if one.key_id in gone), KeyNotInForce())


def _news(connection: Connection) -> AsyncIterator[psycopg.Notify]:
    """Give the ends of the feed that the relay has told of; none when all is quiet for a while."""
    return connection.notifies(timeout=POLL_SECONDS, stop_after=1)


def _end_told(notice: psycopg.Notify) -> int:
    """Give the end of the feed that is told; 0 where somebody else has rung."""
    return int(notice.payload) if notice.payload.isdecimal() else 0


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
