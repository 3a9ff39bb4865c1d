"""Registers the scheduler app with Django."""

from django.apps import AppConfig


class SchedulerConfig(AppConfig):
    """The scheduler app."""

    name = "scheduler"
    verbose_name = "Scheduler"

    def ready(self) -> None:
        """Declare what the clock is watched by."""
        from scheduler.measures import SOURCE
        from tasks_app.platform import declare_metrics

        declare_metrics(SOURCE)
