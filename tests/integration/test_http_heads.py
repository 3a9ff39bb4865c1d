"""Heads of requests are bounded in bytes and in time, before anybody is asked for a key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

import config.http
from config.http import MOST_HEAD_BYTES, Protocol

REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """Run uvicorn with our protocol; gives its port."""
    settings = uvicorn.Config(app, port=0, http=Protocol, lifespan="off", log_config=None)
    server = uvicorn.Server(settings)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def sent(*portions: bytes, app: Any = answer_ok) -> bytes:
    """Send portions on one connection and give all that is answered until its end."""
    async with serving(app) as port, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            with contextlib.suppress(ConnectionError):
                for portion in portions:
                    writer.write(portion)
                    await writer.drain()
                    await asyncio.sleep(0.02)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65_536):
                    answer += data
            return answer


@pytest.mark.parametrize("endless", [b"a" * 32_768, b"\r\nX-Many: 1" * 3_000])
def test_a_head_without_end_is_refused_early(endless: bytes) -> None:
    answer = asyncio.run(sent(REQUEST + b"X-Long: ", endless, endless, endless))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert f"{MOST_HEAD_BYTES} bytes at most".encode() in answer


def test_a_head_that_does_not_end_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.http, "HEAD_SECONDS", 0.1)
    for begun in (b"", b"GET /", REQUEST):
        assert asyncio.run(sent(begun)).startswith(b"HTTP/1.1 408 ")


def test_a_second_head_of_a_connection_is_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.http, "HEAD_SECONDS", 0.3)
    answer = asyncio.run(sent(REQUEST + b"\r\n", REQUEST))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


CHUNKED = REQUEST.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\n\r\n"


END = b"2\r\nok\r\n0\r\n"


@pytest.mark.parametrize(
    ("begun", "endless"),
    [
        (END + b"X-Long: ", b"a" * 32_768),
        (END + b"X-Many: 1", b"\r\nX-Many: 1" * 3_000),
        (b"2;long=", b"a" * 32_768),
    ],
    ids=["one trailer", "many trailers", "an extension"],
)
def test_trailers_and_extensions_without_end_are_refused(begun: bytes, endless: bytes) -> None:
    answer = asyncio.run(sent(CHUNKED + begun, endless, endless, endless))
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_trailers_of_a_chunked_body_are_no_headers() -> None:
    seen: list[Any] = []

    async def headers(scope: Any, receive: Any, send: Any) -> None:
        await answer_ok(scope, receive, send)
        seen.extend(scope["headers"])

    chunks = b"2\r\nok\r\n" + b"1;name=value\r\n!\r\n" + b"0\r\nX-After: 1\r\n\r\n"
    last = REQUEST + b"Connection: close\r\n\r\n"
    answer = asyncio.run(sent(CHUNKED + chunks, last, app=headers))
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert b"x-after" not in [name for name, _ in seen]


def test_heads_in_portions_and_long_bodies_are_served() -> None:
    long = b"X-Long: " + b"a" * (MOST_HEAD_BYTES // 2) + b"\r\n"
    body = b"b" * (4 * MOST_HEAD_BYTES)
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    heads = [REQUEST, long, b"\r\n"] * 3
    last = REQUEST + b"Connection: close\r\n\r\n"
    answer = asyncio.run(sent(*heads, post, body, post + body + last))
    assert answer.count(b"HTTP/1.1 200 ") == 6
