"""Waits without threads: one asyncio task per process asks for all waited tasks in one query.

Nothing is asked while nobody waits. The poll begins at 2 ms, slows to 100 ms where nothing has
changed for 30 ms, and rests twice as long as a question took. The end of a task whose submission
waits rings: then the poll begins at 50 ms, for bells that are not heard. A lost database only
delays: the task reconnects, and waiters end at their timeout.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg

from tasks_app.conf import conf
from tasks_app.db import connection_parameters
from tasks_app.errors import RateLimited
from tasks_app.telemetry import logger

FIRST_PAUSE: Final = 0.002
FIRST_PAUSE_RUNG: Final = 0.05
LONGEST_PAUSE: Final = 0.1
IDLE_SECONDS: Final = 5.0
FIRST_BACKOFF: Final = 0.01
LONGEST_BACKOFF: Final = 2.0
_SLOWER: Final = 1.3
_REST_SHARE: Final = 2
_EAGER_SECONDS: Final = 0.03
_QUERY: Final = """
SELECT id, version, finished_at IS NOT NULL FROM taskmill_task WHERE id = ANY(%s)
"""
_LISTEN: Final = "LISTEN taskmill_ended"
_log = logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a request waits for.

    Attributes:
        version: return once the task has another one; None to wait until it is finished.
        seconds: at most.
        is_rung: whether its end rings: the submission said that it waits.
        key_id: the API key that is charged with the wait.
    """

    task_id: uuid.UUID
    tenant_id: int
    version: int | None
    seconds: float
    key_id: str
    is_rung: bool = False


class _Waiter:
    __slots__ = ("changed", "wish")

    def __init__(self, wish: Wait) -> None:
        self.wish = wish
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self, version: int, *, is_finished: bool) -> bool:
        """Wake the waiter if this is what it waits for."""
        is_other = self.wish.version is not None and version != self.wish.version
        return (is_other or is_finished) and self.wake()

    def wake(self) -> bool:
        if self.changed.done():
            return False
        self.changed.set_result(None)
        return True


class WaitingHub:
    """The waiters of one event loop and the task that asks for them."""

    def __init__(self) -> None:
        self._waiters: defaultdict[uuid.UUID, set[_Waiter]] = defaultdict(set)
        self._per_key: Counter[str] = Counter()
        self._unrung = 0
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._backoff = FIRST_BACKOFF

    @property
    def waiters(self) -> int:
        """How many requests wait now."""
        return self._per_key.total()

    def has_room(self, key_id: str) -> bool:
        """Say whether one more wait of this key is let in."""
        return self._per_key[key_id] < conf().max_waits_per_key

    async def wait(self, wish: Wait) -> None:
        """Return when the wish is fulfilled, the task is gone, or its time is over.

        Raises:
            RateLimited: the key has `max_waits_per_key` waits open.
        """
        if not self.has_room(wish.key_id):
            raise RateLimited(
                f"this API key has {conf().max_waits_per_key} waits open; let one end first"
            )
        waiter = _Waiter(wish)
        self._add(waiter)
        try:
            async with asyncio.timeout(wish.seconds):
                await waiter.changed
        except TimeoutError:
            return
        finally:
            self._remove(waiter)

    def _add(self, waiter: _Waiter) -> None:
        self._waiters[waiter.wish.task_id].add(waiter)
        self._per_key[waiter.wish.key_id] += 1
        self._unrung += not waiter.wish.is_rung
        self._arrival.set()
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=contextvars.Context())

    def _remove(self, waiter: _Waiter) -> None:
        of_task = self._waiters[waiter.wish.task_id]
        of_task.discard(waiter)
        if not of_task:
            del self._waiters[waiter.wish.task_id]
        self._per_key[waiter.wish.key_id] -= 1
        self._per_key += Counter()
        self._unrung -= not waiter.wish.is_rung

    async def _run(self) -> None:
        try:
            while self._waiters:
                await self._look()
        finally:
            self._task = None

    async def _look(self) -> None:
        """Look with a new connection until nobody waits, or until that fails."""
        hearing = asyncio.create_task(self._hear())
        try:
            async with await _connect() as connection:
                self._backoff = FIRST_BACKOFF
                await self._poll(connection, hearing)
                return
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            _log.warning("waiting hub lost the database", error=str(error).split("\n")[0])
        except Exception:  # noqa: BLE001 - whatever it is, who waits is not left alone
            _log.exception("waiting hub failed")
            self._backoff = LONGEST_BACKOFF
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        await asyncio.sleep(self._backoff)
        self._backoff = min(self._backoff * 2, LONGEST_BACKOFF)

    async def _hear(self) -> None:
        """Wake those whose task's end rings."""
        async with await _connect() as connection:
            await connection.execute(_LISTEN)
            async for bell in connection.notifies():
                with suppress(ValueError):  # others may ring, too
                    for waiter in self._waiters.get(uuid.UUID(bell.payload), ()):
                        waiter.wake()

    async def _poll(
        self, connection: psycopg.AsyncConnection[Any], hearing: asyncio.Task[None]
    ) -> None:
        clock = asyncio.get_running_loop().time
        pause, eager_until = 0.0, 0.0
        is_new = True
        while self._waiters or (is_new := await self._somebody_arrives(IDLE_SECONDS)):
            if hearing.done():
                hearing.result()
            if is_new:
                pause, eager_until = self._first_pause, clock() + _EAGER_SECONDS
                await asyncio.sleep(pause if pause == FIRST_PAUSE_RUNG else 0)
            asked, asked_at = tuple(self._waiters), clock()
            cursor = await connection.execute(_QUERY, (list(asked),), prepare=True)
            if self._tell(asked, await cursor.fetchall()):
                pause, eager_until = self._first_pause, clock() + _EAGER_SECONDS
            rest = min(_REST_SHARE * (clock() - asked_at), LONGEST_PAUSE)
            is_new = await self._somebody_arrives(max(pause, rest))
            if is_new:
                await asyncio.sleep(max(FIRST_PAUSE, rest))
            elif clock() > eager_until:
                pause = min(pause * _SLOWER, LONGEST_PAUSE)

    @property
    def _first_pause(self) -> float:
        return FIRST_PAUSE if self._unrung else FIRST_PAUSE_RUNG

    def _tell(
        self, asked: Iterable[uuid.UUID], rows: Iterable[tuple[uuid.UUID, int, bool]]
    ) -> bool:
        """Wake those whose wish is fulfilled or whose task is gone; say whether there are any."""
        known = {task_id: (version, is_finished) for task_id, version, is_finished in rows}
        told = False
        for task_id in asked:
            now = known.get(task_id)
            for waiter in self._waiters.get(task_id, ()):
                told |= waiter.wake() if now is None else waiter.tell(now[0], is_finished=now[1])
        return told

    async def _somebody_arrives(self, within_seconds: float) -> bool:
        self._arrival.clear()
        try:
            async with asyncio.timeout(within_seconds):
                await self._arrival.wait()
        except TimeoutError:
            return False
        return True


async def _connect() -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(
        **connection_parameters(),
        autocommit=True,
        application_name="taskmill-waiting",
        options="-c statement_timeout=10000",
    )


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, WaitingHub] = WeakKeyDictionary()


def waiting_hub() -> WaitingHub:
    """Give the hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), WaitingHub())
