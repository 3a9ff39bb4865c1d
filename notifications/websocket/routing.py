"""Where WebSockets go, and how their tokens are kept out of the log."""

from __future__ import annotations

from channels.routing import URLRouter
from django.urls import URLPattern, path, re_path

from notifications.websocket.consumer import AsgiSend, Scope, events, one_task
from notifications.websocket.socket import Receive


async def not_here(_scope: Scope, receive: Receive, send: AsgiSend) -> None:
    """Refuse the handshake of any other address."""
    await receive()
    await send({"type": "websocket.close"})


socket_routes: list[URLPattern] = [
    path("ws/v1/events", events),  # type: ignore[arg-type]  # an ASGI application, no view
    path("ws/v1/tasks/<str:task_id>", one_task),  # type: ignore[arg-type]  # as above
]
_elsewhere: URLPattern = re_path("", not_here)  # type: ignore[arg-type]  # as above


class WebSocketApplication:
    """All WebSockets of the platform.

    The server logs the address of each socket from the scope that it made; that one loses its
    query, where tokens and tickets are, before anything is logged.
    """

    def __init__(self) -> None:
        self._router = URLRouter([*socket_routes, _elsewhere])

    async def __call__(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        """Serve one socket."""
        inner = dict(scope)
        scope["query_string"] = b""
        await self._router(inner, receive, send)
