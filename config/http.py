"""The web process's HTTP protocol: uvicorn's, which sends the head of an answer with its body, and
takes no head without end.

uvicorn writes the two one after the other: two calls of the kernel, and two wake-ups of the client.
And it gathers a head of any length for any time, before anybody is asked for a key: one header of a
hundred megabytes stops all others for many seconds.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES: Final = 65_536
"""Of a request's line and headers. What comes in one portion of the socket, 256 KiB at most, is
read in any case."""

HEAD_SECONDS: Final = 15.0
"""From the connection, or from the head's beginning, to its end."""


class PairedWrites:
    """A transport that sends two writes of one turn of the loop as one; all else is the inner's.

    Holds one write at most, to the end of the turn.
    """

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send what is held together with this, or hold this."""
        if self._held:
            held, self._held = self._held, b""
            self.inner.write(held + data)
        elif data:
            self._held = data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            held, self._held = self._held, b""
            self.inner.write(held)

    def close(self) -> None:
        """Send what is held, and close."""
        self.flush()
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Protocol(HttpToolsProtocol):
    """For uvicorn's `--http`; a connection that becomes a WebSocket gets its own transport back."""

    _steps = 0
    _is_under_way = False
    _is_in_head = False
    _stray_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to serve a connection."""
        super().connection_made(PairedWrites(transport, self.loop))  # type: ignore[arg-type]  # stands for one
        self._time_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_head()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Read a portion; refuse a head that is too long, and trailers or what stands between the
        chunks of a body.
        """
        steps = self._steps
        super().data_received(data)
        if not self._is_under_way or self.transport.is_closing():
            return
        if self._is_in_head and self._timer is None:
            self._time_head()
        if steps == self._steps:
            self._stray_bytes += len(data)
        if self._stray_bytes > MOST_HEAD_BYTES:
            words = f"A request's line and headers have {MOST_HEAD_BYTES} bytes at most."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, words)

    @override
    def on_message_begin(self) -> None:
        """Begin a head."""
        self._step()
        self._is_in_head = self._is_under_way = True
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer of a chunked body is read by nobody."""
        if self._is_in_head:
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        """End a head."""
        self._end_head()
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._step()
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        """End a request."""
        self._step()
        self._is_under_way = False
        super().on_message_complete()

    def _step(self) -> None:
        self._steps += 1
        self._stray_bytes = 0

    @override
    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        paired: Any = self.transport
        paired.flush()
        self.transport = paired.inner
        super().handle_websocket_upgrade()

    def _time_head(self) -> None:
        words = f"The head of a request has to come within {HEAD_SECONDS:.0f} s."
        self._timer = self.loop.call_later(
            HEAD_SECONDS, self._refuse, HTTPStatus.REQUEST_TIMEOUT, words
        )

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        self._end_head()
        if self.transport.is_closing():
            return
        running = self.cycle
        if running is not None and running.response_started and not running.response_complete:
            self.transport.close()
            return
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain\r\n"
        head += f"content-length: {len(words)}\r\nconnection: close\r\n\r\n"
        self.transport.write((head + words).encode())
        self.transport.close()
