"""Webhooks: who wants events, what is to be sent, and what came of each try."""

from __future__ import annotations

import uuid

import uuid_utils
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q


def new_id() -> uuid.UUID:
    """Give a UUIDv7: unique, and in a process ordered by creation."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


class WebhookEndpoint(models.Model):
    """A receiver of a tenant's events."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(
        "tasks_app.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False
    )
    url = models.TextField()
    description = models.CharField(max_length=200, default="", blank=True)
    types = ArrayField(
        models.CharField(max_length=40), help_text="Event types; empty for the usual ones."
    )
    tags = ArrayField(
        models.CharField(max_length=64), help_text="Only tasks with one of these; empty for all."
    )
    secret = models.TextField(help_text="Sealed; shown once, when it is made.")
    previous_secret = models.TextField(default="", help_text="Sealed; signs too until its end.")
    previous_until = models.DateTimeField(null=True)
    is_enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=200, default="")
    disabled_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True, help_text="First failure since a success.")
    failures = models.IntegerField(default=0, help_text="Failed tries since a success.")
    after_sequence = models.BigIntegerField(help_text="Only events that the feed has later.")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_webhook_endpoint"
        permissions = [("operate_webhook", "Can disable endpoints and resend deliveries")]
        indexes = [
            models.Index(F("tenant"), F("id").desc(), name="webhook_endpoint_list"),
            GinIndex(fields=["types"], name="webhook_endpoint_types"),
        ]

    def __str__(self) -> str:
        return self.url


class WebhookTaskSecret(models.Model):
    """What signs the deliveries to the addresses that tasks were submitted with."""

    tenant = models.OneToOneField(
        "tasks_app.Tenant", on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    secret = models.TextField(help_text="Sealed; shown once, when it is rotated.")
    previous_secret = models.TextField(default="")
    previous_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_webhook_task_secret"

    def __str__(self) -> str:
        return f"task secret of tenant {self.tenant_id}"


class WebhookDelivery(models.Model):
    """One event for one receiver; its id is the `webhook-id` of every try.

    A sender owns it until `leased_until`, which `next_try_at` then is too: one that dies lets the
    delivery become due again. `epoch` fences what a late sender writes.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    tenant = models.ForeignKey(
        "tasks_app.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False
    )
    endpoint = models.ForeignKey(
        WebhookEndpoint,
        on_delete=models.DO_NOTHING,
        related_name="+",
        null=True,
        db_constraint=False,
        db_index=False,
    )
    task_id = models.UUIDField(null=True)
    url = models.TextField(default="", help_text="Of a task; an endpoint's is read at each try.")
    receiver = models.CharField(max_length=64, help_text="The endpoint, or a digest of the URL.")
    lane = models.CharField(
        max_length=80, help_text="What is limited together: the endpoint, or an origin of URLs."
    )
    event = models.CharField(max_length=80, help_text="The CloudEvents id.")
    event_type = models.CharField(max_length=40)
    body = models.TextField(help_text="The exact bytes that are signed and sent.")
    state = models.CharField(
        max_length=12, default="pending", help_text="pending, delivered, failed or stopped."
    )
    tries = models.IntegerField(default=0, help_text="Tries begun.")
    tries_base = models.IntegerField(default=0, help_text="Tries begun before the last resend.")
    epoch = models.BigIntegerField(default=0)
    next_try_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    last_status = models.SmallIntegerField(null=True)
    last_error = models.CharField(max_length=40, default="")

    class Meta:
        db_table = "taskmill_webhook_delivery"
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["receiver", "event"], name="webhook_delivery_once"),
            models.CheckConstraint(
                name="webhook_delivery_finished_iff_final",
                condition=Q(state="pending", finished_at__isnull=True)
                | Q(
                    state__in=["delivered", "failed", "stopped"],
                    finished_at__isnull=False,
                    leased_until__isnull=True,
                ),
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"], name="webhook_delivery_due", condition=Q(state="pending")
            ),
            models.Index(
                fields=["lane", "next_try_at", "id"],
                include=["tenant"],
                name="webhook_delivery_lane",
                condition=Q(state="pending"),
            ),
            models.Index(
                F("endpoint"),
                F("id").desc(),
                name="webhook_delivery_list",
                condition=Q(endpoint__isnull=False),
            ),
            models.Index(fields=["task_id"], name="webhook_delivery_task"),
            models.Index(
                fields=["finished_at"],
                name="webhook_delivery_finished",
                condition=Q(finished_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.id}"


class WebhookTry(models.Model):
    """One try of a delivery. A try whose sender died before its end leaves none."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(
        WebhookDelivery,
        on_delete=models.DO_NOTHING,
        related_name="try_rows",
        db_constraint=False,
        db_index=False,
    )
    number = models.IntegerField()
    at = models.DateTimeField(help_text="When it ended.")
    duration_ms = models.IntegerField()
    status = models.SmallIntegerField(null=True)
    error = models.CharField(max_length=40, default="", help_text="A stable word; empty for none.")
    detail = models.CharField(max_length=300, default="")
    address = models.CharField(max_length=64, default="", help_text="The address dialled.")
    response_head = models.TextField(default="", help_text="At most 1 KiB of the answer's body.")

    class Meta:
        db_table = "taskmill_webhook_try"
        verbose_name_plural = "webhook tries"
        constraints = [
            models.UniqueConstraint(fields=["delivery", "number"], name="webhook_try_once")
        ]

    def __str__(self) -> str:
        return f"try {self.number} of {self.delivery_id}"
