"""The limit row: what holds for a concurrency key or a task type, and what its bucket has out."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from tasks_app.models.queue import valid_rate
from tasks_app.models.tenancy import Tenant
from tasks_app.registry import MAX_CONCURRENCY

RATE_LENGTH = 40


class LimitOf(models.TextChoices):
    """What a limit is of."""

    KEY = "key", "concurrency key of a tenant"
    TYPE = "type", "task type, of all tenants together"


class Limit(models.Model):
    """A limit. `concurrency` and `rate` are what somebody said while the platform runs; where they
    are null, what the handler declares holds for a type, and what each submission says for a key.
    A key has a row while something is pinned, and for an hour after it was lifted.

    The dispatch loop alone writes `spent`, in the transaction that hands tasks out.
    """

    of = models.CharField(max_length=8, choices=LimitOf.choices)
    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    name = models.CharField(max_length=200)
    concurrency = models.IntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CONCURRENCY)],
        help_text="Most tasks that are handed out or run at a time.",
    )
    rate = models.CharField(  # noqa: DJ001 - null is "no rate of its own"
        max_length=RATE_LENGTH,
        null=True,
        blank=True,
        validators=[valid_rate],
        help_text="Most tasks handed out in any such time: 10/min, 1000/s, 100/15min.",
    )
    declared_concurrency = models.IntegerField(null=True, editable=False)
    declared_rate = models.CharField(max_length=RATE_LENGTH, null=True, editable=False)  # noqa: DJ001 - null is "none declared"
    spent = models.JSONField(default=list, db_default=[], editable=False)
    changed_at = models.DateTimeField(null=True, editable=False)
    changed_by = models.CharField(max_length=120, default="", db_default="", editable=False)

    class Meta:
        db_table = "taskmill_limit"
        indexes = [models.Index(fields=["changed_at"], name="limit_changed")]
        constraints = [
            models.CheckConstraint(
                name="limit_of_key_has_tenant",
                condition=Q(of="key", tenant__isnull=False) | Q(of="type", tenant__isnull=True),
            ),
            models.UniqueConstraint(
                name="limit_once", fields=["of", "tenant", "name"], nulls_distinct=False
            ),
        ]

    def __str__(self) -> str:
        return f"{self.of} {self.name}"
