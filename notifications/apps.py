"""Registers the notifications app with Django."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """The notifications app."""

    name = "notifications"
    verbose_name = "Notifications"
