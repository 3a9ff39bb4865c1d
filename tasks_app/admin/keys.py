"""The admin's pages of API keys: made with a token that is shown once, revoked, never changed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from limits import parse_many
from typing_extensions import override

from tasks_app.conf import conf
from tasks_app.models import ApiKey
from tasks_app.services.keys import SCOPES, create_api_key, revoke_api_key


class ApiKeyForm(forms.ModelForm[ApiKey]):
    """A new key."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        widget=forms.CheckboxSelectMultiple,
        help_text="What the key may do; give as little as its user needs.",
    )

    class Meta:
        model = ApiKey
        fields = ("tenant", "name", "scopes", "expires_at", "rate_limit")

    def clean_rate_limit(self) -> str:
        """Refuse what is no rate, such as `100/second`."""
        rate: str = self.cleaned_data["rate_limit"]
        if rate:
            try:
                parse_many(rate)
            except ValueError as error:
                raise forms.ValidationError("write a rate such as 100/second") from error
        return rate


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin[ApiKey]):
    """Keys of all tenants. Whoever may add one can act as its tenant: grant it with care."""

    form = ApiKeyForm
    list_display = (
        "prefix",
        "name",
        "tenant",
        "scopes_shown",
        "status",
        "created_at",
        "last_used_at",
        "expires_at",
    )
    list_select_related = ("tenant",)
    list_filter = ("tenant",)
    search_fields = ("id", "name")
    actions = ("revoke_selected",)

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a key is replaced, not changed."""
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a key is revoked, so that its past stays known."""
        return False

    @override
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow those who may view or change keys."""
        return super().has_view_permission(request, obj) or self.has_revoke_permission(request)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Allow those who hold `change_apikey`."""
        return request.user.has_perm("tasks_app.change_apikey")

    @override
    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Show the facts of a key, or ask for those of a new one."""
        asked = ["tenant", "name", "scopes", "expires_at", "rate_limit"]
        if obj is None:
            return asked
        facts = ["prefix", "tenant", "name", "scopes_shown", "status", "expires_at", "rate_limit"]
        return [*facts, "created_at", "created_by", "last_used_at", "revoked_at"]

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Name what is no form field."""
        return () if obj is None else ("prefix", "scopes_shown", "status", "created_at")

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the key through the service; its token stays with this request alone."""
        chosen = form.cleaned_data
        key, token = create_api_key(
            tenant=chosen["tenant"],
            name=chosen["name"],
            scopes=chosen["scopes"],
            expires_at=chosen["expires_at"],
            created_by=request.user,
            rate_limit=chosen["rate_limit"],
        )
        obj.pk = key.pk
        obj.shown_once = token

    @override
    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the token: in this answer only, not through messages, which are stored."""
        context = {
            **self.admin_site.each_context(request),
            "title": "API key made",
            "opts": self.opts,
            "key": obj,
            "token": obj.shown_once,
        }
        answer = TemplateResponse(request, "admin/tasks_app/apikey/made.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """Refuse the keys from now on."""
        revoked = sum(revoke_api_key(key_id=key.pk) for key in queryset)
        left = len(queryset) - revoked
        if revoked:
            self.message_user(request, f"{revoked} revoked.", messages.SUCCESS)
        if left:
            self.message_user(request, f"{left} had been revoked before.", messages.WARNING)

    @admin.display(description="key")
    def prefix(self, key: ApiKey) -> str:
        """Show the part of the token that names the key."""
        return f"tm_{conf().environment}_{key.id}_..."

    @admin.display(description="scopes")
    def scopes_shown(self, key: ApiKey) -> str:
        """Show the scopes."""
        return ", ".join(key.scopes)

    @admin.display
    def status(self, key: ApiKey) -> str:
        """Say whether the key is accepted."""
        if key.revoked_at is not None:
            return "revoked"
        is_over = key.expires_at is not None and key.expires_at <= timezone.now()
        return "expired" if is_over else "active"
