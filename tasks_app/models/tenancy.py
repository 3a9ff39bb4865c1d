"""Who may call: tenants, their API keys, and the answers remembered for their Idempotency-Keys."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from tasks_app.models.quota import Quotas

MAX_WEIGHT: Final = 1000


class Tenant(Quotas):
    """A customer of the installation; nothing of one is ever visible to another."""

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    weight = models.SmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_WEIGHT)],
        help_text="Its share of a queue beside those of other tenants: twice the weight, twice the "
        "share.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "taskmill_tenant"
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class ApiKey(models.Model):
    """A bearer token's record; the token itself is shown once and kept nowhere."""

    id = models.CharField(max_length=16, primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=200)
    digest = models.CharField(
        max_length=64, unique=True, help_text="SHA-256 of the whole token, in hex."
    )
    scopes = ArrayField(models.CharField(max_length=32))
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, help_text="Written at most once a minute."
    )
    rate_limit = models.CharField(
        max_length=40,
        blank=True,
        help_text="Such as 100/second; empty for the installation's default.",
    )

    class Meta:
        db_table = "taskmill_api_key"
        ordering = ["-created_at"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class IdempotencyRecord(models.Model):
    """The first answer to a request with an Idempotency-Key, kept for its replays."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    path = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32, help_text="SHA-256 of the canonical body.")
    response_status = models.SmallIntegerField(null=True)
    response_body = models.JSONField(null=True)
    response_headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "taskmill_idempotency"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key", "path"], name="idempotency_once")
        ]
        indexes = [models.Index(fields=["expires_at"], name="idempotency_expiry")]

    def __str__(self) -> str:
        return self.key
