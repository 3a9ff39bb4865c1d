"""The addresses of the WebSockets of events, combined with others by `notifications.routing`."""

from __future__ import annotations

from django.urls import URLPattern, path

from notifications.websocket.consumer import events, one_task

socket_routes: list[URLPattern] = [
    path("ws/v1/events", events),  # type: ignore[arg-type]  # an ASGI application, no view
    path("ws/v1/tasks/<str:task_id>", one_task),  # type: ignore[arg-type]  # as above
]
