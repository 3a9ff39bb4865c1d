"""One signed request to a receiver: guarded, bounded in time and size, never redirected.

Bodies are asked for unencoded and read up to a limit.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

from notifications.egress import check_receiver
from notifications.outbound import (
    CONNECT_SECONDS,
    GuardedBackend,
    dialled,
    header_of,
    name_fault,
    shown,
)
from notifications.webhooks.verdict import Outcome
from tasks_app.clock import monotonic

MOST_ANSWER_BYTES: Final = 65_536
MOST_SHOWN_BYTES: Final = 1024


class _TooLarge(Exception):
    """The answer is longer than a receiver needs to say yes."""


class WebhookClient:
    """Sends; used inside one event loop.

    Args:
        total_seconds: for everything of one request.
    """

    def __init__(self, *, total_seconds: float, concurrency: int) -> None:
        self._total_seconds = total_seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=concurrency + 1,
            max_keepalive_connections=0,
            network_backend=GuardedBackend(),
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send one request and say what came of it; never raises for what a receiver does."""
        begun = monotonic()
        dialled.set("")
        seen: dict[str, Any] = {}
        error, detail = "", ""
        try:
            async with asyncio.timeout(self._total_seconds):
                await self._exchange(url, headers, body, seen)
        except TimeoutError:
            error, detail = "timeout", f"no whole answer within {self._total_seconds:g} s"
        except _TooLarge:
            error, detail = "too_large", f"the answer has more than {MOST_ANSWER_BYTES} bytes"
        except Exception as fault:  # noqa: BLE001 - boundary: whatever a transport raises
            error, detail = name_fault(fault)
        return Outcome(
            duration_ms=round((monotonic() - begun) * 1000),
            error=error,
            detail=detail[:300],
            address=dialled.get(),
            **seen,
        )

    async def _exchange(
        self, url: str, headers: Mapping[str, str], body: bytes, seen: dict[str, Any]
    ) -> None:
        checked = check_receiver(url)
        sent = {"Host": urlsplit(checked).netloc, "Content-Length": str(len(body)), **headers}
        limits = {"connect": CONNECT_SECONDS}
        async with self._pool.stream(
            "POST",
            checked,
            headers=list(sent.items()),
            content=body,
            extensions={"timeout": limits},
        ) as answer:
            seen["status"] = answer.status
            seen["retry_after"] = header_of(answer.headers, b"retry-after")
            read = 0
            async for chunk in answer.aiter_stream():
                if read < MOST_SHOWN_BYTES:
                    head = chunk[: MOST_SHOWN_BYTES - read]
                    seen["response_head"] = seen.get("response_head", "") + shown(head)
                read += len(chunk)
                if read > MOST_ANSWER_BYTES:
                    raise _TooLarge

    async def close(self) -> None:
        """Free the connections."""
        await self._pool.aclose()
