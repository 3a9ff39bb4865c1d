"""Where WebSockets go, and how their tokens are kept out of the log."""

from __future__ import annotations

from typing import Final

from channels.routing import URLRouter
from django.urls import URLPattern, re_path

from notifications.signalr.connection import Receive, Send
from notifications.signalr.routing import refuse, signalr_routes
from notifications.websocket.consumer import Scope
from notifications.websocket.routing import socket_routes
from tasks_app.errors import NotFound


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await refuse(scope, send, NotFound())


_elsewhere: Final[URLPattern] = re_path("", _not_found)  # type: ignore[arg-type]  # an ASGI application, no view


class SocketApplication:
    """All WebSockets of the platform.

    The server logs the address of each socket from the scope that it made; that one loses its
    query, where tokens and tickets are, before anything is logged.
    """

    def __init__(self) -> None:
        self._router = URLRouter([*socket_routes, *signalr_routes, _elsewhere])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket."""
        inner = dict(scope)
        scope["query_string"] = b""
        await self._router(inner, receive, send)
