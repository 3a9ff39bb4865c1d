"""What is done at a measured or a chosen pace: starts of a queue, paced retries of dead letters."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks_app.models.task import new_task_id
from tasks_app.models.tenancy import Tenant


class QueuePace(models.Model):
    """How fast tasks of a queue start while there is a backlog; written by the dispatch loop."""

    queue = models.CharField(max_length=100, primary_key=True)
    starts_per_second = models.FloatField()
    measured_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_queue_pace"

    def __str__(self) -> str:
        return f"{self.queue}: {self.starts_per_second:.3g}/s"


class PacedRetry(models.Model):
    """Dead letters being retried so many a second; the maintain loop carries it on.

    Those dead at its start are meant, in order of their end; the place reached, the counts and
    the retries themselves commit together.
    """

    class State(models.TextChoices):
        """What became of it."""

        RUNNING = "running"
        DONE = "done"
        ABORTED = "aborted"

    id = models.UUIDField(primary_key=True, default=new_task_id, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_index=False)
    wanted = models.JSONField(help_text="The fields of the filter that are set.")
    per_second = models.FloatField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.RUNNING)
    total = models.IntegerField(help_text="Dead letters that fitted at its start, to a cap.")
    total_is_capped = models.BooleanField()
    retried = models.IntegerField(default=0)
    skipped = models.IntegerField(
        default=0, help_text="Retried or purged meanwhile, or a live task holds the unique key."
    )
    allowance = models.FloatField(default=0, help_text="Retries earned by time, not yet made.")
    paced_at = models.DateTimeField(help_text="Since when no time is counted into it.")
    place_at = models.DateTimeField(null=True, help_text="End of the last one looked at.")
    place_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=120)
    finished_at = models.DateTimeField(null=True)
    finished_by = models.CharField(max_length=120, default="")

    class Meta:
        db_table = "taskmill_paced_retry"
        verbose_name = "paced retry"
        verbose_name_plural = "paced retries"
        constraints = [
            models.CheckConstraint(
                name="paced_retry_finished_iff_final",
                condition=Q(state="running", finished_at__isnull=True)
                | Q(state__in=["done", "aborted"], finished_at__isnull=False),
            ),
            models.CheckConstraint(name="paced_retry_has_a_pace", condition=Q(per_second__gt=0)),
        ]
        indexes = [
            models.Index(fields=["id"], name="paced_retry_running", condition=Q(state="running")),
            models.Index(fields=["tenant", "-id"], name="paced_retry_list"),
        ]

    def __str__(self) -> str:
        return f"{self.retried} of {self.total} at {self.per_second:g}/s, {self.state}"
