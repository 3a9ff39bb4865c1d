"""The settings of the notifications app, in the manner of `tasks_app.conf`.

Every field is an environment variable `TASKMILL_<NAME>`.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from tasks_app.conf import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsConf:
    """How events leave the platform."""

    allowed_origins: tuple[str, ...] = setting(
        (),
        "Origins (`https://app.example.org`) beside that of `TASKMILL_PUBLIC_URL` whose pages may "
        "open sockets, comma separated.",
    )
    ws_subscriptions: int = setting(
        32, "Most subscriptions on one WebSocket.", least=1, most=10_000
    )
    ws_message_bytes: int = setting(
        65_536,
        "Largest message of a WebSocket client; the web server's own limit stands above it.",
        least=256,
        most=16_777_216,
    )
    ws_messages_per_minute: int = setting(
        300,
        "Messages that a WebSocket client may send in a minute, all at once or spread.",
        least=1,
        most=1_000_000,
    )
    ws_ticket_seconds: int = setting(
        30, "Seconds for which a one-time ticket opens a WebSocket.", least=1, most=600
    )
    signalr_keepalive_seconds: float = setting(
        15.0,
        "Seconds between pings to a SignalR client; stock clients give up after 30 s of silence.",
        least=0.05,
        most=300,
    )
    signalr_client_timeout_seconds: float = setting(
        30.0,
        "Seconds of a SignalR client's silence after which it is cut off; stock clients ping every "
        "15 s.",
        least=0.1,
        most=3600,
    )
    signalr_max_tasks: int = setting(
        100, "Unfinished tasks that one SignalR connection may watch.", least=1, most=10_000
    )


def notifications_conf() -> NotificationsConf:
    """Give the settings in force."""
    found: NotificationsConf = settings.NOTIFICATIONS
    return found
