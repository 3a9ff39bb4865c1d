"""HTTP routes of the hub, mounted at /hubs/notifications by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, path

from notifications.signalr.negotiation import NegotiateView

urlpatterns: list[URLPattern] = [
    path("negotiate", NegotiateView.as_view(), name="signalr-negotiate"),
]
