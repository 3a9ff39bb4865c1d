"""Reads for subscribers that catch up, and the connections that the hub reads with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from tasks_app.db import connection_parameters
from tasks_app.feed.event import FeedEvent, feed_event
from tasks_app.feed.reading import BOUNDS, PAGE, PAGE_OF_TASKS, FeedBounds
from tasks_app.feed.subscription import FeedReset, Wanted

REPLAY_EVENTS: Final = 1000

Connection = psycopg.AsyncConnection[Any]


class Replays:
    """Reads for those that catch up, one at a time, on one connection."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    async def read(self, wanted: Wanted, after: int, until: int) -> tuple[list[FeedEvent], int]:
        """Give the wanted events of a page of (after, until], and the cursor to go on from.

        Raises:
            FeedReset: the cursor is not in the feed.
        """
        async with self._lock:
            connection = await self._connected()
            if not (await bounds(connection)).has(after):
                raise FeedReset(cursor=after)
            if wanted.tasks:
                return await _page_of_tasks(connection, wanted, after, until)
            until = min(after + REPLAY_EVENTS, until)
            values = {"after": after, "until": until, "tenant": wanted.tenant_id}
            found = await events(connection, PAGE, values | {"types": None, "tasks": None})
            return [event for event in found if wanted.takes(event)], until

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = await _connect("replay")
        return self._connection

    async def close(self) -> None:
        """Give the connection back; the next read opens one."""
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
    found = await events(connection, PAGE_OF_TASKS, values)
    reached = found[-1].sequence if len(found) == REPLAY_EVENTS else until
    return [event for event in found if wanted.takes(event)], reached


async def bounds(connection: Connection) -> FeedBounds:
    """Give the bounds of the feed now."""
    cursor = await connection.execute(BOUNDS)
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - an aggregate row
    return FeedBounds(row["first"], row["last"])


async def events(connection: Connection, query: str, values: dict[str, Any]) -> list[FeedEvent]:
    """Give the events that a query of `tasks_app.feed.reading` finds."""
    cursor = await connection.execute(query, values)
    return [feed_event(row) for row in await cursor.fetchall()]


@asynccontextmanager
async def connected(role: str) -> AsyncIterator[Connection]:
    """A connection of its own, closed at the end."""
    connection = await _connect(role)
    try:
        yield connection
    finally:
        await connection.close()


async def _connect(role: str) -> Connection:
    return await psycopg.AsyncConnection.connect(
        **connection_parameters(),
        autocommit=True,
        prepare_threshold=1,
        row_factory=dict_row,
        application_name=f"taskmill-{role}",
        options="-c statement_timeout=30000",
    )
