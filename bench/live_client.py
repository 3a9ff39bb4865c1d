"""Many live connections in one process: `python -m bench.live_client KIND PORT TASKS CONNECTIONS
EVENTS...`.

KIND is `websocket`, `sse`, `channels` (the peer), `all` (server-sent events of everything, which
are thrown away unread) or `ends` (WebSockets that wait for their task's success); the bearer token
comes in `BENCH_TOKEN`. Every connection watches one of the tasks, whose ids are joined by commas;
progress is numbered in its message. For each number of events in turn, one line of JSON is printed
when every connection has so many more: the first says how long connecting took, the others when
each event came, in nanoseconds of the clock that all processes share.

Frames are not decoded: the client must not cost more than the server that it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from time import monotonic_ns
from typing import Any

import uvloop

NUMBERED = re.compile(rb'"message":"(\d+)"')
SUCCEEDED = re.compile(rb'"type":"task.succeeded"()')
CONNECTING_MOST = 40
MASK = b"\x00\x00\x00\x00"
SHORT_MOST = 125
TAIL_BYTES = 256


class Audience:
    """What all connections have received."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.times: defaultdict[int, list[int]] = defaultdict(list)
        self.count = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def note(self, number: int, now: int) -> None:
        """Note an event."""
        self.times[number].append(now)
        self.count += 1
        if self.count >= self._wanted:
            self._reached.set()

    async def wait_for(self, count: int) -> None:
        """Wait until so many have come."""
        self._wanted = count
        self._reached.clear()
        if self.count < count:
            await self._reached.wait()


class Connection(asyncio.Protocol):
    """One connection; `opened` is done when its subscription is in force."""

    def __init__(
        self,
        audience: Audience | None,
        request: bytes,
        subscription: bytes,
        *,
        sign: bytes,
    ) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._audience = audience
        self._request = request
        self._subscription = subscription
        self._sign = sign
        self._rest = b""
        self._is_upgraded = False

    def connection_made(self, transport: Any) -> None:
        """Ask."""
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note the numbers of the events."""
        now = monotonic_ns()
        if not self.opened.done():
            self._open(self._rest + data)
            return
        if self._audience is None:
            return
        data = self._rest + data
        end = 0
        for found in self._audience.pattern.finditer(data):
            self._audience.note(int(found[1] or 0), now)
            end = found.end()
        self._rest = data[max(end, len(data) - TAIL_BYTES) :]

    def _open(self, data: bytes) -> None:
        if not self._is_upgraded and b"\r\n\r\n" in data:
            self._is_upgraded = True
            self._transport.write(self._subscription)
        if self._sign in data:
            self.opened.set_result(None)
            data = b""
        self._rest = data

    def connection_lost(self, error: Exception | None) -> None:
        """End the run: every connection has to see everything."""
        print(f"a connection was lost: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def text_frame(text: str) -> bytes:
    """Give a masked WebSocket frame of a text of less than 64 KiB."""
    data = text.encode()
    if len(data) <= SHORT_MOST:
        return b"\x81" + bytes([0x80 | len(data)]) + MASK + data
    return b"\x81\xfe" + len(data).to_bytes(2) + MASK + data


def asked(kind: str, task: str) -> tuple[bytes, bytes, bytes]:
    """Give the request, what follows it, and the sign that the subscription is in force."""
    token = os.environ["BENCH_TOKEN"]
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    if kind == "all":
        return f"GET /api/v1/events/stream HTTP/1.1\r\n{head}\r\n".encode(), b"", b"retry:"
    if kind == "sse":
        return f"GET /api/v1/tasks/{task}/stream HTTP/1.1\r\n{head}\r\n".encode(), b"", b"snapshot"
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    request = (
        f"GET /ws/v1/events HTTP/1.1\r\n{head}{upgrade}"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    if kind == "channels":
        return request.encode(), b"", b"snapshot"
    wish = json.dumps({"op": "subscribe", "id": 1, "tasks": [task]})
    return request.encode(), text_frame(wish), b"snapshot"


async def watch(
    kind: str, port: int, tasks: Sequence[str], connections: int, rounds: Sequence[int]
) -> None:
    """Connect, and print what comes."""
    audience = Audience(SUCCEEDED if kind == "ends" else NUMBERED)
    heard = None if kind == "all" else audience
    permits = asyncio.Semaphore(CONNECTING_MOST)
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        parts = asked(kind, tasks[number % len(tasks)])
        async with permits:
            _, made = await loop.create_connection(
                lambda: Connection(heard, parts[0], parts[1], sign=parts[2]), "127.0.0.1", port
            )
            await made.opened

    begun = monotonic_ns()
    await asyncio.gather(*(one(number) for number in range(connections)))
    print(json.dumps({"connected_seconds": (monotonic_ns() - begun) / 1e9}), flush=True)
    total = 0
    for events in rounds:
        total += events * connections
        await audience.wait_for(total)
        print(json.dumps(audience.times), flush=True)
        audience.times.clear()
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(
        watch(
            sys.argv[1],
            int(sys.argv[2]),
            sys.argv[3].split(","),
            int(sys.argv[4]),
            [int(word) for word in sys.argv[5:]],
        )
    )
