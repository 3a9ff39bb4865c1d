"""The admin's pages of tenants."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from typing_extensions import override

from tasks_app.models import Tenant
from tasks_app.selectors import forget_tenants
from tasks_app.selectors.quotas import forget_quotas
from tasks_app.services.keys import forget_principals


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin[Tenant]):
    """Made and deactivated here; never deleted, and the slug never changes."""

    list_display = ("slug", "name", "is_active", "weight", "created_at")
    search_fields = ("slug", "name")
    fields = (
        "slug",
        "name",
        "is_active",
        "weight",
        "max_waiting",
        "max_waiting_bytes",
        "max_submissions_per_minute",
        "created_at",
    )

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: tasks and their history hang on it; deactivate it."""
        return False

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Fix the slug once it is in use."""
        return ("created_at",) if obj is None else ("created_at", "slug")

    @override
    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        """Save, and let this process forget what it remembered of the tenant."""
        super().save_model(request, obj, form, change)
        forget_tenants()
        forget_principals()
        forget_quotas()
