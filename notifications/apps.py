"""Registers the notifications app with Django."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """The notifications app."""

    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        """Declare the engine's loops of the transports; have revoked keys announced everywhere."""
        from notifications.mqtt.conf import is_mqtt_on
        from notifications.websocket.revocations import announce_revocation
        from tasks_app.public import EngineLoop, declare_loop, on_key_revoked

        on_key_revoked(announce_revocation)
        declare_loop(
            EngineLoop(name="mqtt", work="notifications.mqtt.sink.make_work", is_needed=is_mqtt_on)
        )
