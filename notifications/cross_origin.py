"""Lets pages of the origins in `TASKMILL_ALLOWED_ORIGINS` read tasks and their streams.

Only what a watch token is for: GET of a task, of its stream and of the stream of a tag, with the
token in the query. No cookie is ever read, and the header `Authorization` is not allowed: an API
key has no place in a page.
Source: https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from notifications.origins import is_allowed_origins

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_READABLE: Final = re.compile(r"/api/v1/(tasks/[^/]+(/stream)?|events/stream)")
_VARY: Final = (b"vary", b"Origin")
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET"),
    (b"access-control-allow-headers", b"if-none-match, prefer"),
    (b"access-control-max-age", b"600"),
]
_EXPOSED: Final[Headers] = [(b"access-control-expose-headers", b"ETag, Retry-After")]


class CrossOriginReads:
    """Serves HTTP by another application, and adds what browsers ask for.

    Args:
        application: answers the requests.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if _READABLE.fullmatch(scope.get("path", "")) is None:
            await self._application(scope, receive, send)
            return
        allowed = _allowed(scope)
        if allowed and scope["method"] == "OPTIONS":
            await send(
                {
                    "type": "http.response.start",
                    "status": 204,
                    "headers": [_VARY, *allowed, *_PREFLIGHT],
                }
            )
            await send({"type": "http.response.body"})
            return

        async def send_with_headers(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = [_VARY, *(allowed and [*allowed, *_EXPOSED])]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._application(scope, receive, send_with_headers)


def _allowed(scope: Scope) -> Headers:
    """Give the header that lets the page read the answer; nothing for others."""
    origins: list[bytes] = [value for name, value in scope["headers"] if name == b"origin"]
    if not origins or not is_allowed_origins(one.decode("latin-1") for one in origins):
        return []
    return [(b"access-control-allow-origin", origins[0])]
