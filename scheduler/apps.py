"""Registers the scheduler app with Django."""

from django.apps import AppConfig


class SchedulerConfig(AppConfig):
    """The scheduler app."""

    name = "scheduler"
    verbose_name = "Scheduler"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Declare how the clock is watched: a part of the health, and metrics."""
        from scheduler.health import BEAT
        from scheduler.measures import SOURCE
        from tasks_app.platform import declare_health_part, declare_metrics

        declare_health_part(BEAT)
        declare_metrics(SOURCE)
