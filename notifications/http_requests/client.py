"""One request to a service: guarded, bounded in time and size; cancelled with its coroutine."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpcore
from django.conf import settings

from notifications.egress import EgressPolicy, policy_of
from notifications.http_requests.conf import http_request_conf
from notifications.http_requests.verdict import MOST_REDIRECTS, next_request
from notifications.outbound import CONNECT_SECONDS, GuardedBackend, header_of

_USER_AGENT: Final = "Taskmill"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent; `fixed` are headers that every origin gets."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    fixed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: `body` is its beginning where `is_truncated`."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_truncated: bool


def call_policy() -> EgressPolicy:
    """Give the policy for called services of the settings in force."""
    return policy_of(http_request_conf(), str(settings.PUBLIC_URL))


async def send(request: Request, *, seconds: float, follows: bool) -> Answer:
    """Send a request and read its answer up to the limit.

    Args:
        seconds: for everything, redirects included.
        follows: whether redirects are followed; each address is checked.

    Raises:
        TimeoutError: there is no whole answer in time.
        EgressRefused, NoSuchName, OSError, httpcore errors: see `outbound.name_fault`.
    """
    async with (
        asyncio.timeout(seconds),
        httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=1,
            max_keepalive_connections=0,
            network_backend=GuardedBackend(call_policy),
        ) as pool,
    ):
        answer = await _exchange(pool, request)
        for _ in range(MOST_REDIRECTS if follows else 0):
            location = header_of(answer.headers, b"location")
            wanted = next_request(
                request.method,
                request.url,
                request.headers,
                request.body,
                status=answer.status,
                location=location,
            )
            if wanted is None:
                break
            request = Request(*wanted, fixed=request.fixed)
            answer = await _exchange(pool, request)
        return answer


async def _exchange(pool: httpcore.AsyncConnectionPool, request: Request) -> Answer:
    checked = call_policy().check_url(request.url)
    sent = {"host": urlsplit(checked).netloc, "user-agent": _USER_AGENT, "accept": "*/*"}
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        sent["content-length"] = str(len(request.body))
    sent |= {name.lower(): value for name, value in {**request.headers, **request.fixed}.items()}
    async with pool.stream(
        request.method,
        checked,
        headers=list(sent.items()),
        content=request.body or None,
        extensions={"timeout": {"connect": CONNECT_SECONDS}},
    ) as answer:
        most = http_request_conf().max_answer_bytes
        read = bytearray()
        async for chunk in answer.aiter_stream():
            read += chunk
            if len(read) > most:
                break
        return Answer(
            answer.status, tuple(answer.headers), bytes(read[:most]), is_truncated=len(read) > most
        )
