"""Calls and answers in HTTPX's terms; both sides use it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import httpx

from taskmill_client.configuration import API_PATH, Configuration
from taskmill_client.version import VERSION
from taskmill_client.wire import Answer, Call, Lost, encode

USER_AGENT: Final = f"taskmill-client/{VERSION} python/{platform.python_version()}"
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.InvalidURL)
_OK: Final = 200


def httpx_request(
    http: httpx.Client | httpx.AsyncClient, configuration: Configuration, call: Call
) -> httpx.Request:
    """Give the request of a call."""
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **call.headers}
    if configuration.token:
        headers["Authorization"] = f"Bearer {configuration.token}"
    content = None
    if call.body is not None:
        content = encode(call.body)
        headers.setdefault("Content-Type", "application/json")
    return http.build_request(
        call.method,
        f"{configuration.url}{API_PATH}{call.path}",
        params=query_of(call.query),
        content=content,
        headers=headers,
        timeout=_timeout(configuration, call),
    )


def _timeout(configuration: Configuration, call: Call) -> httpx.Timeout:
    usual = configuration.timeout_seconds
    read = usual + call.patience_seconds if call.silence_seconds is None else call.silence_seconds
    return httpx.Timeout(usual, read=read)


def query_of(query: Mapping[str, Any]) -> dict[str, list[str]]:
    """Give the parameters as texts; None is left out.

    A list of nothing is one empty text, which the server refuses: left out it would mean all.
    """
    return {name: _texts(value) for name, value in query.items() if value is not None}


def _texts(value: Any) -> list[str]:
    if isinstance(value, list | tuple | set | frozenset):
        return [_text(one) for one in value] or [""]
    return [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value.value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def is_stream(response: httpx.Response) -> bool:
    """Say whether an answer is a stream, whose end does not come."""
    kind = response.headers.get("content-type", "")
    return response.status_code == _OK and "text/event-stream" in kind


def answer_of(response: httpx.Response) -> Answer:
    """Give the answer; of a stream without its body."""
    body = b"" if is_stream(response) else response.content
    return Answer(
        status=response.status_code,
        headers={name.lower(): value for name, value in response.headers.items()},
        body=body,
    )


def lost_of(error: Exception) -> Lost:
    """Give what is thrown into a flow for an error of HTTPX."""
    words = str(error) or type(error).__name__
    lost = Lost(
        f"{words} ({type(error).__name__})" if str(error) else words,
        was_sent=not isinstance(error, _NOT_SENT),
        is_silence=isinstance(error, httpx.ReadTimeout),
    )
    lost.__cause__ = error
    return lost
