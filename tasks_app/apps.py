"""The composition root of the tasks app: plugs the ports together once Django is ready."""

from __future__ import annotations

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """The tasks app."""

    name = "tasks_app"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, give handlers their ports, and discover them."""
        from tasks_app import checks, registry  # noqa: F401 - importing checks registers them
        from tasks_app.services.handles import submit
        from tasks_app.testing import run_handler

        registry.Handler.submit_port = submit
        registry.Handler.test_run_port = run_handler
        registry.discover()
