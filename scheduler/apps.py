"""Registers the scheduler app with Django."""

from django.apps import AppConfig


class SchedulerConfig(AppConfig):
    """The scheduler app."""

    name = "scheduler"
    verbose_name = "Scheduler"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Report the clock as a part of the platform's health."""
        from scheduler.health import BEAT
        from tasks_app.platform import declare_health_part

        declare_health_part(BEAT)
