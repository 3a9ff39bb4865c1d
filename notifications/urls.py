"""The routes of the notifications app, mounted at /api/v1 by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from notifications.ticket_views import SocketTickets

urlpatterns: list[URLPattern | URLResolver] = [
    path("ws-tickets", SocketTickets.as_view(), name="ws-tickets"),
]
