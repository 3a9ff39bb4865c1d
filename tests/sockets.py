"""A WebSocket client for tests: the stock one, and what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.web import Web


class Socket:
    """An open WebSocket that speaks JSON."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, op: str, **fields: Any) -> None:
        """Send one message."""
        await self.connection.send(orjson.dumps({"op": op} | fields).decode())

    async def next(self, op: str = "") -> Any:
        """Give the next message, which must be of this kind."""
        found = orjson.loads(await self.connection.recv())
        assert not op or found["op"] == op, found
        return found

    async def ask(self, op: str, **fields: Any) -> Any:
        """Send one message and give the next that comes."""
        await self.send(op, **fields)
        return await self.next()

    async def subscribe(self, name: int | str = 1, **wanted: Any) -> Any:
        """Subscribe and give the acknowledgement."""
        found = await self.ask("subscribe", id=name, **wanted)
        assert (found["op"], found["id"]) == ("ack", name), found
        return found

    async def events(self, count: int) -> list[Any]:
        """Give the next events, as `(id of the subscription, CloudEvent)`."""
        found = [await self.next("event") for _ in range(count)]
        return [(one["id"], one["event"]) for one in found]

    async def closing(self) -> tuple[int, Any, Any]:
        """Read to the end: close code, reason, and the last message if it says so itself."""
        last = None
        try:
            while True:
                last = orjson.loads(await self.connection.recv())
        except ConnectionClosed:
            code, reason = self.connection.close_code, self.connection.close_reason
        said = orjson.loads(reason) if (reason or "").startswith("{") else reason
        is_last_word = last is not None and last["op"] == "closing"
        return code or 0, said, last if is_last_word else None


@asynccontextmanager
async def opened(
    server: Web,
    token: str = "",
    *,
    path: str = "/ws/v1/events",
    origin: str | None = None,
    **options: Any,
) -> AsyncIterator[Socket]:
    """An open socket of a real web process; `token` goes into the header."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"ws{server.url.removeprefix('http')}{path}"
    async with (
        asyncio.timeout(60),
        connect(
            url,
            additional_headers=headers,
            origin=origin,
            proxy=None,
            **options,  # type: ignore[arg-type]  # any text
        ) as connection,
    ):
        yield Socket(connection)


async def refusal(server: Web, token: str = "", **options: Any) -> tuple[int, str]:
    """Give the close code and the word with which a socket is refused, and nothing before."""
    async with opened(server, token, **options) as socket:
        code, said, last = await socket.closing()
        assert last is None
        return code, said["code"]
