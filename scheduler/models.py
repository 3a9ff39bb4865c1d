"""Schedules and their firings. The timing lives in django-celery-beat's tables beside them."""

from __future__ import annotations

import uuid

import uuid_utils
from django.db import models
from django.db.models import Q
from django_celery_beat.models import PeriodicTask

from scheduler.decisions import CatchUp, Outcome, Overlap, Spread


def new_schedule_id() -> uuid.UUID:
    """Give a UUIDv7."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


class Kind(models.TextChoices):
    """What a schedule starts."""

    TASKMILL = "taskmill", "Taskmill task"
    CELERY = "celery", "Celery task"


class Origin(models.TextChoices):
    """Who declared a schedule."""

    API = "api", "API"
    CODE = "code", "code"
    TABLES = "tables", "django-celery-beat"


class Status(models.TextChoices):
    """Where a schedule stands.

    Paused ones stay on the clock: their instants are recorded as skipped. The others are off it.
    """

    ACTIVE = "active", "active"
    PAUSED = "paused", "paused"
    ENDED = "ended", "ended"
    RETIRED = "retired", "removed from the code"
    BROKEN = "broken", "broken"


class Schedule(models.Model):
    """What Taskmill knows of a `PeriodicTask` beside its timing: policies, and where it stands."""

    id = models.UUIDField(primary_key=True, default=new_schedule_id, editable=False)
    periodic_task = models.OneToOneField(
        PeriodicTask, on_delete=models.CASCADE, related_name="taskmill_schedule"
    )
    tenant = models.ForeignKey(
        "tasks_app.Tenant",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="None for plain Celery tasks.",
    )
    key = models.CharField(max_length=200, help_text="Unique within the tenant.")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.TASKMILL)
    origin = models.CharField(max_length=8, choices=Origin.choices, default=Origin.API)
    options = models.JSONField(default=dict, help_text="Submission options of its tasks.")

    overlap = models.CharField(
        max_length=16, choices=[(one.value, one.value) for one in Overlap], default="allow"
    )
    catch_up = models.CharField(
        max_length=8, choices=[(one.value, one.value) for one in CatchUp], default="last"
    )
    catch_up_most = models.SmallIntegerField(default=10, help_text="For catch-up `all`.")
    spread = models.CharField(
        max_length=8, choices=[(one.value, one.value) for one in Spread], default="none"
    )
    spread_seconds = models.IntegerField(default=0, help_text="Width of the window.")
    expire_seconds = models.IntegerField(
        null=True, help_text="An instant later than this is never fired."
    )
    pause_after_failures = models.SmallIntegerField(
        null=True, help_text="Failed tasks in a row after which the schedule pauses itself."
    )

    status = models.CharField(max_length=8, choices=Status.choices, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=500, default="", blank=True)
    status_by = models.CharField(max_length=120, default="", blank=True)
    status_at = models.DateTimeField(null=True)

    timing = models.CharField(
        max_length=1000, default="", help_text="The timing last seen; tells edits apart."
    )
    anchor_at = models.DateTimeField(help_text="Intervals count from here.")
    next_nominal_at = models.DateTimeField(null=True, help_text="The next instant by the rule.")
    next_at = models.DateTimeField(null=True, help_text="The same with the spread.")
    last_nominal_at = models.DateTimeField(null=True)
    last_outcome = models.CharField(max_length=12, default="", blank=True)
    last_fired_at = models.DateTimeField(null=True)
    last_task_id = models.UUIDField(null=True)
    fired_count = models.BigIntegerField(default=0)
    skipped_count = models.BigIntegerField(default=0)
    missed_count = models.BigIntegerField(default=0)
    failures_in_row = models.IntegerField(default=0)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=120, default="")
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_schedule"
        constraints = [
            models.UniqueConstraint(
                name="schedule_key_once",
                fields=["tenant", "key"],
                condition=Q(tenant__isnull=False),
            ),
            models.CheckConstraint(
                name="schedule_next_both_or_none",
                condition=Q(next_at__isnull=True, next_nominal_at__isnull=True)
                | Q(next_at__isnull=False, next_nominal_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_at"], name="schedule_due", condition=Q(next_at__isnull=False)
            ),
            models.Index(fields=["tenant", "key"], name="schedule_list"),
        ]
        permissions = [("operate_schedule", "Can run, pause and resume schedules")]

    def __str__(self) -> str:
        return self.key


class Firing(models.Model):
    """One due instant of a schedule, and what became of it."""

    id = models.BigAutoField(primary_key=True)
    schedule = models.ForeignKey(
        Schedule, on_delete=models.CASCADE, related_name="firings", db_index=False
    )
    nominal_at = models.DateTimeField(help_text="The instant by the rule, without spread.")
    covers_until = models.DateTimeField(
        null=True, help_text="A row that stands for all instants before this one."
    )
    outcome = models.CharField(max_length=12, choices=[(one.value, one.value) for one in Outcome])
    reason = models.CharField(max_length=500, default="", blank=True)
    is_manual = models.BooleanField(default=False, help_text="Run by somebody, not by the rule.")
    actor = models.CharField(max_length=120, default="", blank=True)
    task_id = models.UUIDField(null=True)
    task_state = models.CharField(max_length=16, default="", blank=True)
    is_open = models.BooleanField(default=False, help_text="Its task was not seen finished yet.")
    recorded_at = models.DateTimeField()
    fired_at = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(
        null=True, help_text="A beat publishes it until then (plain Celery tasks)."
    )
    tries = models.SmallIntegerField(default=0)

    class Meta:
        db_table = "taskmill_firing"
        constraints = [
            models.UniqueConstraint(name="firing_once", fields=["schedule", "nominal_at"])
        ]
        indexes = [
            models.Index(fields=["schedule"], name="firing_open", condition=Q(is_open=True)),
            models.Index(fields=["id"], name="firing_open_id", condition=Q(is_open=True)),
            models.Index(
                fields=["nominal_at"],
                name="firing_pending",
                condition=Q(outcome__in=["waiting", "publishing"]),
            ),
            models.Index(fields=["recorded_at"], name="firing_recorded"),
            models.Index(fields=["task_id"], name="firing_task"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.nominal_at}"


class ScheduleChange(models.Model):
    """A periodic task that was added or edited by anybody; written by triggers, read by beats."""

    periodic_task_id = models.IntegerField(primary_key=True)
    changed_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_schedule_change"

    def __str__(self) -> str:
        return str(self.periodic_task_id)


class BeatProcess(models.Model):
    """A beat that runs, renewed with its ticks."""

    id = models.CharField(max_length=120, primary_key=True, help_text="Unique per start.")
    name = models.CharField(max_length=120, help_text="host:pid")
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_beat"

    def __str__(self) -> str:
        return self.name


class HourNumbers(models.Model):
    """How the tasks of a tenant, queue and type ended that finished within an hour."""

    id = models.BigAutoField(primary_key=True)
    hour = models.DateTimeField(help_text="When it began.")
    tenant = models.ForeignKey(
        "tasks_app.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False
    )
    queue = models.CharField(max_length=100)
    type = models.CharField(max_length=100)
    success = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    error = models.IntegerField(default=0)
    timeout = models.IntegerField(default=0)
    cancelled = models.IntegerField(default=0)
    run_count = models.IntegerField(default=0, help_text="Tasks that were started.")
    run_seconds = models.FloatField(default=0, help_text="How long they ran, together.")
    wait_count = models.IntegerField(default=0)
    wait_seconds = models.FloatField(default=0, help_text="From the queue to the start, together.")

    class Meta:
        db_table = "taskmill_hour"
        constraints = [
            models.UniqueConstraint(name="hour_once", fields=["tenant", "hour", "queue", "type"])
        ]
        indexes = [models.Index(fields=["hour"], name="hour_begin")]

    def __str__(self) -> str:
        return f"{self.hour} {self.queue} {self.type}"
