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
        """Declare the loops, and have submissions refuse addresses that are never sent to."""
        from notifications import checks  # noqa: F401 - importing checks registers them
        from notifications.egress import check_receiver
        from tasks_app.public import EngineLoop, ReceiverPort, declare_loop

        for name, work in LOOPS.items():
            declare_loop(EngineLoop(name=name, work=work))
        ReceiverPort.check = staticmethod(check_receiver)
