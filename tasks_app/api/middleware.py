"""The outermost layer of every request: its id, its trace, and the headers that protect browsers.

Works in both of Django's modes; costs a few microseconds and touches neither database nor session.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Final

import structlog
import uuid_utils
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

_REQUEST_ID: Final = re.compile(r"^[A-Za-z0-9._~:/+=-]{1,128}$")
_TRACEPARENT: Final = re.compile(r"^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$")


class RequestIdMiddleware:
    """Sets `request.request_id` and `request.traceparent`.

    The id is that of X-Request-Id, else a UUIDv7; the trace is "" unless a valid one came. The id
    is bound to the log lines of the request and echoed in the answer.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request in the mode that the chain runs in."""
        if self._is_async:
            return self._answer_async(request)
        bind(request)
        response = self._get_response(request)
        assert isinstance(response, HttpResponseBase)  # noqa: S101 - not async
        return finish(request, response)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        bind(request)
        response = self._get_response(request)
        assert not isinstance(response, HttpResponseBase)  # noqa: S101 - async
        return finish(request, await response)


@cache
def _security_headers() -> tuple[tuple[str, str], ...]:
    hsts = f"max-age={settings.SECURE_HSTS_SECONDS}; includeSubDomains; preload"
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "X-Frame-Options": "DENY",
        "Strict-Transport-Security": hsts if settings.SECURE_HSTS_SECONDS else "",
    }
    return tuple((name, value) for name, value in headers.items() if value)


def bind(request: HttpRequest) -> None:
    """Name the request."""
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    request_id = given if _REQUEST_ID.match(given) else str(uuid_utils.uuid7())
    trace = request.META.get("HTTP_TRACEPARENT", "")
    request.request_id = request_id  # type: ignore[attr-defined]  # our own attribute
    request.traceparent = trace if _TRACEPARENT.match(trace) else ""  # type: ignore[attr-defined]
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)


def finish(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Echo the id, and add what protects browsers where the view set nothing of its own."""
    response.headers["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
    for name, value in _security_headers():
        response.headers.setdefault(name, value)
    return response
