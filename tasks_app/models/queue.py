"""The queue row: what holds for a queue beside its tasks; one per name, shared by all tenants."""

from __future__ import annotations

from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from tasks_app.limits import parse_rate
from tasks_app.models.quota import Quotas
from tasks_app.registry import MAX_CONCURRENCY, MAX_TIMEOUT_SECONDS, QUEUE_PATTERN

MAX_WINDOW: Final = 100_000
MAX_SHARE_BY_PRIORITY: Final = "queue_max_share_by_priority"
WINDOW_IN_ORDER: Final = "queue_window_in_order"
WINDOW_NEEDS: Final = "window_least is at most window_most"
MAX_SHARE_NEEDS: Final = "max_share needs the order priority: orders by time do not share"


def valid_rate(text: str) -> None:
    """Refuse what is no rate; for forms."""
    try:
        parse_rate(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _within(least: int, most: int) -> list[MinValueValidator | MaxValueValidator]:
    return [MinValueValidator(least), MaxValueValidator(most)]


class QueueOrder(models.TextChoices):
    """Which of the ready tasks of a queue go first."""

    PRIORITY = "priority", "larger priority first, then the one that was ready first"
    OLDEST = "oldest", "the one that was ready first, whatever its priority"
    NEWEST = "newest", "the one that was ready last, whatever its priority"


class Queue(Quotas):
    """A named queue. A column that is null leaves the matter to the platform's settings."""

    name = models.CharField(
        max_length=100,
        primary_key=True,
        validators=[RegexValidator(QUEUE_PATTERN.pattern)],
        help_text="1 to 100 of a-z, 0-9, dot, underscore and hyphen.",
    )
    description = models.CharField(max_length=1000, blank=True, default="")
    order = models.CharField(max_length=16, choices=QueueOrder.choices, default=QueueOrder.PRIORITY)
    priority = models.SmallIntegerField(
        null=True, blank=True, validators=_within(-1000, 1000), help_text="Larger is sooner."
    )
    max_retry = models.SmallIntegerField(null=True, blank=True, validators=_within(0, 1000))
    process_timeout = models.IntegerField(
        null=True, blank=True, validators=_within(1, MAX_TIMEOUT_SECONDS), help_text="Seconds."
    )
    queue_timeout = models.IntegerField(
        null=True, blank=True, validators=_within(1, MAX_TIMEOUT_SECONDS), help_text="Seconds."
    )
    retry_policy = models.JSONField(
        null=True, blank=True, help_text="The `retry` object of a submission."
    )
    ageing_seconds = models.IntegerField(
        null=True,
        blank=True,
        validators=_within(1, MAX_TIMEOUT_SECONDS),
        help_text="After so long a task gets its turn though others of a larger priority wait.",
    )
    max_share = models.SmallIntegerField(
        null=True,
        blank=True,
        validators=_within(1, 100),
        help_text="Most of its slots that tasks of one tenant may hold, in percent, one at least;"
        " for the order priority. Without it one of eight is kept free while tenants share it.",
    )
    shared_until = models.DateTimeField(
        null=True,
        editable=False,
        help_text="Until then some of its slots are kept free of any one tenant.",
    )
    window_least = models.IntegerField(null=True, blank=True, validators=_within(1, MAX_WINDOW))
    window_most = models.IntegerField(null=True, blank=True, validators=_within(1, MAX_WINDOW))
    concurrency = models.IntegerField(
        null=True,
        blank=True,
        validators=_within(1, MAX_CONCURRENCY),
        help_text="Most tasks that are handed out or run at a time, of all tenants together.",
    )
    rate = models.CharField(  # noqa: DJ001 - null is "no rate"
        max_length=40,
        null=True,
        blank=True,
        validators=[valid_rate],
        help_text="Most tasks handed out in any such time: 10/min, 1000/s, 100/15min.",
    )
    spent = models.JSONField(default=list, db_default=[], editable=False)
    is_paused = models.BooleanField(default=False, editable=False)
    paused_by = models.CharField(max_length=120, default="", editable=False)
    paused_at = models.DateTimeField(null=True, editable=False)
    pause_reason = models.CharField(max_length=500, default="", editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "taskmill_queue"
        permissions = [("steer_queue", "Can pause and resume queues")]
        constraints = [
            models.CheckConstraint(
                name="queue_order_known", condition=Q(order__in=QueueOrder.values)
            ),
            models.CheckConstraint(
                name=MAX_SHARE_BY_PRIORITY,
                condition=Q(max_share__isnull=True) | Q(order=QueueOrder.PRIORITY),
                violation_error_message=MAX_SHARE_NEEDS,
            ),
            models.CheckConstraint(
                name=WINDOW_IN_ORDER,
                condition=Q(window_least__isnull=True)
                | Q(window_most__isnull=True)
                | Q(window_least__lte=F("window_most")),
                violation_error_message=WINDOW_NEEDS,
            ),
            models.CheckConstraint(
                name="queue_paused_since",
                condition=Q(is_paused=True, paused_at__isnull=False)
                | Q(is_paused=False, paused_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.name
