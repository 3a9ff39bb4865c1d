"""The composition root of the tasks app: plugs the ports together once Django is ready."""

from __future__ import annotations

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """The tasks app."""

    name = "tasks_app"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Discover handlers."""
        from tasks_app import registry

        registry.discover()
