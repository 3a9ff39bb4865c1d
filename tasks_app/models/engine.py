"""Who is at work: workers, loop leaders, and the finishes that came too late."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class WorkerProcess(models.Model):
    """A worker's main process, renewed with its leases; older than three renewals: lost."""

    id = models.CharField(max_length=120, primary_key=True, help_text="Unique per start.")
    name = models.CharField(max_length=120, help_text="host:pid, as tasks show it.")
    queues = ArrayField(models.CharField(max_length=100))
    slots = models.IntegerField(help_text="Tasks it runs at a time.")
    busy = models.IntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    is_stopping = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    lost_at = models.DateTimeField(
        null=True, help_text="When the engine said that it is lost; null again when it is back."
    )

    class Meta:
        db_table = "taskmill_worker"
        indexes = [models.Index(fields=["last_seen_at"], name="worker_last_seen")]

    def __str__(self) -> str:
        return self.name


class Leader(models.Model):
    """Who runs a loop now; `token` fences the statements of a former leader."""

    loop = models.CharField(max_length=60, primary_key=True)
    holder = models.CharField(max_length=120)
    token = models.BigIntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_leader"

    def __str__(self) -> str:
        return f"{self.loop}: {self.holder}"


class FailedStep(models.Model):
    """A step of the maintain loop that has failed: how often, when last, and why."""

    step = models.CharField(max_length=60, primary_key=True)
    failures = models.BigIntegerField()
    failed_at = models.DateTimeField()
    reason = models.CharField(max_length=200)

    class Meta:
        db_table = "taskmill_failed_step"

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}"


class StaleResult(models.Model):
    """A worker's write that the epoch refused."""

    id = models.BigAutoField(primary_key=True)
    task_id = models.UUIDField(db_index=True)
    epoch = models.BigIntegerField()
    verb = models.CharField(max_length=20)
    worker = models.CharField(max_length=120)
    at = models.DateTimeField()
    digest = models.CharField(max_length=64, default="")

    class Meta:
        db_table = "taskmill_stale_result"

    def __str__(self) -> str:
        return f"{self.task_id} epoch {self.epoch}"
