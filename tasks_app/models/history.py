"""What happened: events, attempts, log lines, and the values of `ctx.once`. Append-only."""

from __future__ import annotations

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q

from tasks_app.models.task import Task
from tasks_app.models.tenancy import Tenant


class Event(models.Model):
    """A committed fact; `(task, seq)` is dense from 1 within a task, `seq` 1 is its creation.

    One about a queue, a worker or a schedule has no task, names its `subject`, and has `seq` 1. One
    about a queue or a worker has no tenant: it is of the installation.
    """

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(
        Task,
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="events",
        db_constraint=False,
        db_index=False,
    )
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    seq = models.IntegerField()
    type = models.CharField(max_length=40)
    from_state = models.CharField(max_length=16, null=True)  # noqa: DJ001 - null is "did not exist"
    state = models.CharField(max_length=16)
    epoch = models.BigIntegerField()
    attempt = models.IntegerField()
    at = models.DateTimeField()
    actor = models.CharField(max_length=120, default="")
    data = models.JSONField(null=True)
    subject = models.CharField(  # noqa: DJ001 - null costs the events of tasks nothing
        max_length=120, null=True, help_text="What it is about, where that is no task."
    )

    class Meta:
        db_table = "taskmill_event"
        constraints = [
            models.UniqueConstraint(fields=["task", "seq"], name="event_once"),
            models.CheckConstraint(
                name="event_of_task_or_subject",
                condition=Q(task__isnull=False, tenant__isnull=False, subject__isnull=True)
                | Q(task__isnull=True, subject__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["at"], name="event_of_platform", condition=Q(task__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.subject or self.task_id} {self.seq} {self.type}"


class Attempt(models.Model):
    """One ended run of a task; written with the transition that ended it."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(
        Task, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    epoch = models.BigIntegerField()
    attempt = models.IntegerField()
    worker = models.CharField(max_length=120)
    outcome = models.CharField(
        max_length=16, help_text="success, failed, timeout, cancelled, lost, interrupted."
    )
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    error = models.JSONField(null=True)
    traceback = models.TextField(default="")

    class Meta:
        db_table = "taskmill_attempt"
        constraints = [models.UniqueConstraint(fields=["task", "epoch"], name="attempt_once")]

    def __str__(self) -> str:
        return f"{self.task_id} attempt {self.attempt}"


class LogChunk(models.Model):
    """Some consecutive log lines of one attempt: `[{at, level, message, fields}]`."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(
        Task, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    tenant = models.ForeignKey(
        Tenant, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    epoch = models.BigIntegerField()
    number = models.IntegerField()
    size_bytes = models.IntegerField()
    lines = models.JSONField()

    class Meta:
        db_table = "taskmill_log"
        constraints = [
            models.UniqueConstraint(fields=["task", "epoch", "number"], name="log_chunk_once")
        ]

    def __str__(self) -> str:
        return f"{self.task_id} {self.epoch}.{self.number}"


class OnceValue(models.Model):
    """What `ctx.once(key, ...)` stored for the later attempts of a task."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(
        Task, on_delete=models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    key = models.CharField(max_length=200)
    value = models.JSONField(null=True)
    epoch = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_once"
        constraints = [models.UniqueConstraint(fields=["task", "key"], name="once_value_once")]
        ordering = [F("id").asc()]

    def __str__(self) -> str:
        return f"{self.task_id} {self.key}"


class PurgedTask(models.Model):
    """What is left of a task that was purged: that it was there, so that it is told as gone."""

    task_id = models.UUIDField(primary_key=True)
    tenant = models.ForeignKey(
        Tenant,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    purged_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_purged_task"
        indexes = [BrinIndex(fields=["purged_at"], name="purged_task_age")]

    def __str__(self) -> str:
        return str(self.task_id)
