"""A WebSocket client for tests: the stock one, and what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from notifications.asyncapi.document import build_document
from tests.web import Web

FRAMES = {"event": "delivery"}
"""Names of messages in the AsyncAPI document, where they differ from `op`."""


@cache
def validator_of(message: str) -> Draft202012Validator:
    """Give what judges a message by the AsyncAPI document."""
    document = build_document()
    schema = document["components"]["messages"][message]["payload"]
    resource = DRAFT202012.create_resource(document)
    return Draft202012Validator(
        {"$ref": f"urn:document{schema['$ref']}"},
        registry=Registry().with_resource("urn:document", resource),
        format_checker=FormatChecker(),
    )


class Socket:
    """An open WebSocket that speaks JSON; what it is sent is held against the AsyncAPI document."""

    def __init__(self, connection: ClientConnection, *, is_judged: bool = True) -> None:
        self.connection = connection
        self.is_judged = is_judged

    async def receive(self) -> Any:
        """Give the next message."""
        found = orjson.loads(await self.connection.recv())
        if self.is_judged:
            validator_of(FRAMES.get(found["op"], found["op"])).validate(found)
        return found

    async def send(self, op: str, **fields: Any) -> None:
        """Send one message."""
        await self.connection.send(orjson.dumps({"op": op} | fields).decode())

    async def next(self, op: str = "") -> Any:
        """Give the next message, which must be of this kind."""
        found = await self.receive()
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
                last = await self.receive()
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
    is_judged: bool = True,
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
        yield Socket(connection, is_judged=is_judged)


async def refusal(server: Web, token: str = "", **options: Any) -> tuple[int, str]:
    """Give the close code and the word with which a socket is refused, and nothing before."""
    async with opened(server, token, **options) as socket:
        code, said, last = await socket.closing()
        assert last is None
        return code, said["code"]
