"""The admin's limits: what holds for concurrency keys and task types beside what is declared."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import connection
from django.db.models.functions import Now
from django.http import HttpRequest
from typing_extensions import override

from tasks_app.models import Limit
from tasks_app.services.limits import limits_changed


@admin.register(Limit)
class LimitAdmin(admin.ModelAdmin[Limit]):
    """Limits by what they are of, with what their handlers declare."""

    list_display = (
        "name",
        "of",
        "tenant",
        "concurrency",
        "rate",
        "declared_concurrency",
        "declared_rate",
        "changed_by",
    )
    list_filter = ("of", "tenant")
    list_select_related = ("tenant",)
    search_fields = ("name",)
    ordering = ("of", "name")
    fields = (
        *("of", "tenant", "name", "concurrency", "rate", "declared_concurrency", "declared_rate"),
        *("changed_by", "changed_at"),
    )
    readonly_fields = ("declared_concurrency", "declared_rate", "changed_by", "changed_at")

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: with the row would go what the handler declares; empty the fields instead."""
        return False

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Fix what a limit is of once it is made."""
        return (
            self.readonly_fields if obj is None else (*self.readonly_fields, "of", "tenant", "name")
        )

    @override
    def save_model(self, request: HttpRequest, obj: Limit, form: Any, change: bool) -> None:
        """Save what was changed alone, for the dispatcher writes to the row meanwhile, and ring."""
        obj.changed_by = f"admin:{request.user.get_username()}"[:120]
        obj.changed_at = Now()
        named = ("changed_by", "changed_at")
        obj.save(update_fields=[*form.changed_data, *named] if change else None)
        with connection.cursor() as cursor:
            limits_changed(cursor)
