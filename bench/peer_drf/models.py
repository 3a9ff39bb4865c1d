"""The one table."""

from __future__ import annotations

from django.db import models


class Entry(models.Model):
    """A task as somebody's own table would have it."""

    type = models.CharField(max_length=100)
    payload = models.JSONField()
    status = models.CharField(max_length=20, default="pending")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"
