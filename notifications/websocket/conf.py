"""The settings of the WebSocket transport: environment variables `TASKMILL_WS_...`."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from tasks_app.conf import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketConf:
    """What a WebSocket may do."""

    ws_allowed_origins: tuple[str, ...] = setting(
        (),
        "Origins whose pages may open WebSockets, beside that of TASKMILL_PUBLIC_URL, comma "
        "separated: `https://app.example.com`. Compared exactly.",
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


def socket_conf() -> SocketConf:
    """Give the settings in force."""
    found: SocketConf = settings.TASKMILL_WEBSOCKET
    return found
