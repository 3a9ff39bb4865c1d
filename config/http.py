"""The web process's HTTP protocol: uvicorn's, which sends the head of an answer with its body.

uvicorn writes them one after the other: two calls of the kernel, and two wake-ups of the client.
"""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


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

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to serve a connection."""
        super().connection_made(PairedWrites(transport, self.loop))  # type: ignore[arg-type]  # stands for one

    @override
    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        paired: Any = self.transport
        paired.flush()
        self.transport = paired.inner
        super().handle_websocket_upgrade()
