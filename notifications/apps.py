"""Registers the notifications app with Django."""

from __future__ import annotations

from typing import Final

from django.apps import AppConfig

LOOPS: Final = {
    "webhooks": "notifications.webhooks.sink.make_work",
    "webhooks-send": "notifications.webhooks.sending.make_work",
}


class NotificationsConfig(AppConfig):
    """The notifications app."""

    name = "notifications"
    verbose_name = "Notifications"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Declare the loops of the transports and plug into the platform's ports."""
        from notifications import checks  # noqa: F401 - importing checks registers them
        from notifications.egress import check_receiver
        from notifications.mqtt.conf import is_mqtt_on
        from notifications.webhooks.measures import SOURCE
        from tasks_app.platform import (
            EngineLoop,
            ReceiverPort,
            declare_loop,
            declare_metrics,
            on_key_revoked,
        )

        for name, work in LOOPS.items():
            declare_loop(EngineLoop(name=name, work=work))
        declare_loop(
            EngineLoop(name="mqtt", work="notifications.mqtt.sink.make_work", is_needed=is_mqtt_on)
        )
        declare_metrics(SOURCE)
        ReceiverPort.check = staticmethod(check_receiver)
        on_key_revoked(_announce_revocation)


def _announce_revocation(key_id: str) -> None:
    """Announce it; a worker, which never does, does not load the libraries that it takes."""
    from notifications.websocket.revocations import announce_revocation

    announce_revocation(key_id)
