"""One signed request to a receiver: guarded, bounded in time and size, never redirected.

httpcore is used as it is: it knows neither redirects, proxies of the environment, cookies nor
content encodings, and it lets us dial. Bodies are asked for unencoded and read up to a limit.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
from typing_extensions import override

from notifications.egress import (
    Address,
    EgressPolicy,
    EgressRefused,
    check_receiver,
    egress_policy,
    look_up,
    resolver_threads,
)
from notifications.webhooks.verdict import Outcome
from tasks_app.clock import monotonic

MOST_ANSWER_BYTES: Final = 65_536
MOST_SHOWN_BYTES: Final = 1024
MOST_DIALLED: Final = 3
_CONNECT_SECONDS: Final = 5.0
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_dialled: ContextVar[str] = ContextVar("dialled", default="")


class _TooLarge(Exception):
    """The answer is longer than a receiver needs to say yes."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Dials an address that was checked, whatever the name resolves to a moment later."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    @override
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every address, dial them in turn.

        Raises:
            EgressRefused: one of the addresses is not allowed.
            httpcore.ConnectError: there is no address, or none of them answers.
        """
        last: Exception = httpcore.ConnectError("the name has no address")
        for address in (await _addresses(host, port, egress_policy()))[:MOST_DIALLED]:
            _dialled.set(str(address))
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout=timeout, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
                last = fault
        raise last


async def _addresses(host: str, port: int, policy: EgressPolicy) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(resolver_threads(), look_up, host, port)
    except (OSError, UnicodeError) as fault:
        raise _NoSuchName(str(fault)) from fault
    policy.check_addresses(host, found)
    return found


class _NoSuchName(Exception):
    """The name cannot be resolved."""


_FAULTS: Final[tuple[tuple[tuple[type[Exception], ...], str, str], ...]] = (
    ((_NoSuchName,), "name", "the name cannot be resolved"),
    ((_TooLarge,), "too_large", f"the answer has more than {MOST_ANSWER_BYTES} bytes"),
    ((httpcore.ConnectError, httpcore.ConnectTimeout), "connect", "the connection was not made"),
    (
        (httpcore.RemoteProtocolError, httpcore.LocalProtocolError),
        "protocol",
        "the answer is not HTTP, or ended early",
    ),
    ((httpcore.NetworkError,), "network", "the connection broke"),
)


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
        _dialled.set("")
        seen: dict[str, Any] = {}
        error, detail = "", ""
        try:
            async with asyncio.timeout(self._total_seconds):
                await self._exchange(url, headers, body, seen)
        except TimeoutError:
            error, detail = "timeout", f"no whole answer within {self._total_seconds:g} s"
        except Exception as fault:  # noqa: BLE001 - boundary: whatever a transport raises
            error, detail = _named(fault)
        return Outcome(
            duration_ms=round((monotonic() - begun) * 1000),
            error=error,
            detail=detail[:300],
            address=_dialled.get(),
            **seen,
        )

    async def _exchange(
        self, url: str, headers: Mapping[str, str], body: bytes, seen: dict[str, Any]
    ) -> None:
        checked = check_receiver(url)
        sent = {"Host": urlsplit(checked).netloc, "Content-Length": str(len(body)), **headers}
        limits = {"connect": _CONNECT_SECONDS}
        async with self._pool.stream(
            "POST",
            checked,
            headers=list(sent.items()),
            content=body,
            extensions={"timeout": limits},
        ) as answer:
            seen["status"] = answer.status
            seen["retry_after"] = _header(answer.headers, b"retry-after")
            read = 0
            async for chunk in answer.aiter_stream():
                if read < MOST_SHOWN_BYTES:
                    head = chunk[: MOST_SHOWN_BYTES - read]
                    seen["response_head"] = seen.get("response_head", "") + _shown(head)
                read += len(chunk)
                if read > MOST_ANSWER_BYTES:
                    raise _TooLarge

    async def close(self) -> None:
        """Free the connections."""
        await self._pool.aclose()


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")


def _shown(head: bytes) -> str:
    """Give bytes as text that a database takes and a terminal survives."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", head.decode("utf-8", "replace"))


def _named(fault: Exception) -> tuple[str, str]:
    """Give the stable word for a fault and one sentence; texts of receivers are not repeated."""
    cause = _cause(fault)
    if isinstance(fault, EgressRefused):
        return "refused", fault.detail
    if isinstance(cause, ssl.SSLError):
        return "tls", str(cause)
    for kinds, word, text in _FAULTS:
        if isinstance(fault, kinds):
            return word, text
    return "unexpected", type(fault).__name__


def _cause(fault: BaseException) -> BaseException:
    """Give what a fault was raised from in the end; the pool hides it with `from None`."""
    while (before := fault.__cause__ or fault.__context__) is not None:
        fault = before
    return fault
