"""How much may be submitted: quotas of tenants and queues, and what admission remembers."""

from __future__ import annotations

from typing import Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

MAX_WAITING: Final = 1_000_000
MAX_WAITING_BYTES: Final = 1 << 50
MAX_SUBMISSIONS: Final = 10_000_000


def _up_to(most: int) -> list[MinValueValidator | MaxValueValidator]:
    return [MinValueValidator(1), MaxValueValidator(most)]


class Quotas(models.Model):
    """The quotas of a tenant, or of a queue for all tenants together; null is "no quota"."""

    max_waiting = models.IntegerField(
        null=True,
        blank=True,
        validators=_up_to(MAX_WAITING),
        help_text="Most tasks that wait; submissions beyond get 429.",
    )
    max_waiting_bytes = models.BigIntegerField(
        null=True,
        blank=True,
        validators=_up_to(MAX_WAITING_BYTES),
        help_text="Most bytes of JSON in the payloads of the tasks that wait.",
    )
    max_submissions_per_minute = models.IntegerField(
        null=True,
        blank=True,
        validators=_up_to(MAX_SUBMISSIONS),
        help_text="Most tasks accepted in a minute.",
    )

    class Meta:
        abstract = True


class SubmissionMeter(models.Model):
    """How many tasks a tenant or queue with a quota per minute was granted in its last minute."""

    scope = models.CharField(max_length=120, primary_key=True, help_text="tenant:3, queue:orders")
    started_at = models.DateTimeField()
    accepted = models.IntegerField()

    class Meta:
        db_table = "taskmill_submission_meter"

    def __str__(self) -> str:
        return self.scope


class UniqueHold(models.Model):
    """A key that is unique for a time: who submits it meanwhile is given its task."""

    tenant = models.ForeignKey("Tenant", on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    task_id = models.UUIDField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_unique_hold"
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="unique_hold_once")]
        indexes = [models.Index(fields=["expires_at"], name="unique_hold_expiry")]

    def __str__(self) -> str:
        return self.key
