"""Registers the notifications app with Django."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """The notifications app."""

    name = "notifications"
    verbose_name = "Notifications"

    def ready(self) -> None:
        """Have revoked keys announced to all web processes."""
        from notifications.websocket.revocations import announce_revocation
        from tasks_app.public import on_key_revoked

        on_key_revoked(announce_revocation)
