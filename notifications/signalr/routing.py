"""The WebSocket routes of the hub, combined with others by `notifications.routing`.

An ASGI application of its own and not a Channels consumer: see docs/adr/0010-signalr.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.urls import URLPattern, path

from notifications.signalr.access import principal_of_socket
from notifications.signalr.connection import HubConnection, Receive, Send
from notifications.signalr.watching import key_of
from tasks_app.conf import conf
from tasks_app.errors import InfrastructureError, TaskmillError
from tasks_app.platform import (
    FeedClosed,
    Principal,
    Subscription,
    Wanted,
    connection_open,
    feed_hub,
)
from tasks_app.rest import problem_body, problem_headers, to_json

_NOTHING: Final = frozenset({"none"})


async def notifications_hub(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Serve one WebSocket of `/hubs/notifications`."""
    await receive()
    try:
        principal = await principal_of_socket(scope)
        presence = _presence(principal)
    except TaskmillError as error:
        await refuse(scope, send, error)
        return
    async with presence:
        await send({"type": "websocket.accept"})
        with connection_open("signalr"):
            await HubConnection(principal, presence, receive=receive, send=send).serve()


def _presence(principal: Principal) -> Subscription:
    """Give a subscription to nothing: it counts the connection and ends with key and process."""
    try:
        return feed_hub().open(
            Wanted(tenant_id=principal.tenant_id, types=_NOTHING),
            after=0,
            holder=principal.key_id,
            most=conf().max_streams_per_key,
            key_id=key_of(principal),
        )
    except FeedClosed as error:
        raise InfrastructureError("this process stops; connect again") from error


async def refuse(scope: Mapping[str, Any], send: Send, error: TaskmillError) -> None:
    """Answer a WebSocket's request with a problem document, or a plain 403 where none can be."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = to_json(problem_body(error, instance=scope["path"], request_id=""))
    headers = {"Content-Type": "application/problem+json", **problem_headers(error)}
    await send(
        {
            "type": "websocket.http.response.start",
            "status": error.http_status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "websocket.http.response.body", "body": body})


signalr_routes: list[URLPattern] = [
    path("hubs/notifications", notifications_hub),  # type: ignore[arg-type]  # for Channels' router
]
