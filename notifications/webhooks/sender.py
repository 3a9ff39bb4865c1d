"""The event loop in which tries are under way: a thread of the engine's process.

The sending loop hands orders in and takes outcomes out; database and network never wait for each
other.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from notifications.signing import signed_headers
from notifications.webhooks.claims import Order
from notifications.webhooks.client import WebhookClient
from notifications.webhooks.verdict import Outcome

_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "Taskmill-Webhooks/1",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """An order with what came of it."""

    order: Order
    outcome: Outcome


class Sender:
    """Runs tries; its methods are called from one other thread."""

    def __init__(self, *, total_seconds: float, concurrency: int) -> None:
        self._limits = (total_seconds, concurrency)
        self._done: SimpleQueue[Sent] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: WebhookClient | None = None

    def send(self, order: Order) -> None:
        """Begin a try."""
        asyncio.run_coroutine_threadsafe(self._send(order), self._running())

    def outcomes(self, *, wait_seconds: float) -> list[Sent]:
        """Give the tries that have ended; waits for the first of them at most so long."""
        found = []
        try:
            found.append(self._done.get(timeout=wait_seconds))
            while True:
                found.append(self._done.get_nowait())
        except Empty:
            return found

    def close(self) -> None:
        """Break off what is under way, and end the thread."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = self._client = None

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="webhooks", daemon=True
            )
            self._thread.start()
        return self._loop

    async def _send(self, order: Order) -> None:
        if self._client is None:
            total_seconds, concurrency = self._limits
            self._client = WebhookClient(total_seconds=total_seconds, concurrency=concurrency)
        self._done.put(Sent(order, await _try(self._client, order)))

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._client is not None:
            await self._client.close()


async def _try(client: WebhookClient, order: Order) -> Outcome:
    if not order.keys:
        detail = "the secret cannot be read: SECRET_KEY has changed; rotate the secret"
        return Outcome(duration_ms=0, error="secret", detail=detail)
    signed = signed_headers(
        order.keys, message_id=str(order.id), timestamp=order.now, body=order.body
    )
    return await client.post(order.url, _HEADERS | signed, order.body)
