"""How this platform connects to what a tenant named: the dialling, and the names of its faults.

httpcore is used as it is: it knows neither redirects, proxies of the environment, cookies nor
content encodings, and it lets us dial. Used by webhooks and by the handler `http.request`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final

import httpcore
from typing_extensions import override

from notifications.egress import (
    Address,
    EgressPolicy,
    EgressRefused,
    egress_policy,
    look_up,
    resolver_threads,
)

MOST_DIALLED: Final = 3
CONNECT_SECONDS: Final = 5.0
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
dialled: ContextVar[str] = ContextVar("dialled", default="")
"""The address dialled last."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Dials an address that was checked, whatever the name resolves to a moment later.

    Args:
        policy: gives whom it may reach, at each connection.
    """

    def __init__(self, policy: Callable[[], EgressPolicy] = egress_policy) -> None:
        self._policy = policy
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
        for address in (await _addresses(host, port, self._policy()))[:MOST_DIALLED]:
            dialled.set(str(address))
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
        raise NoSuchName(str(fault)) from fault
    policy.check_addresses(host, found)
    return found


class NoSuchName(Exception):
    """The name cannot be resolved."""


_FAULTS: Final[tuple[tuple[tuple[type[Exception], ...], str, str], ...]] = (
    ((NoSuchName,), "name", "the name cannot be resolved"),
    ((httpcore.ConnectError, httpcore.ConnectTimeout), "connect", "the connection was not made"),
    (
        (httpcore.RemoteProtocolError, httpcore.LocalProtocolError),
        "protocol",
        "the answer is not HTTP, or ended early",
    ),
    ((httpcore.NetworkError,), "network", "the connection broke"),
)


def header_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """Give the first header of a name (lower case), empty where there is none."""
    return next((value.decode("latin-1") for key, value in headers if key.lower() == name), "")


def shown(head: bytes) -> str:
    """Give bytes as text that a database takes and a terminal survives."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", head.decode("utf-8", "replace"))


def name_fault(fault: Exception) -> tuple[str, str]:
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
