"""The admin's pages of dead letters by cause, and of the paced retries that begin there."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import RegexValidator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from typing_extensions import override

from tasks_app.admin.readonly import ReadOnlyAdmin
from tasks_app.errors import StateConflict
from tasks_app.models import PacedRetry, Tenant
from tasks_app.selectors.dead_letters import DeadLetterFilter, dead_letters_by_cause
from tasks_app.services.caller import Caller
from tasks_app.services.paced_retries import abort_paced_retry, begin_paced_retry
from tasks_app.services.redrive import purge_dead_letters

MAX_TENANTS_OFFERED: Final = 100
CAUSES: Final = "tasks_app_pacedretry_causes"


class CauseForm(forms.Form):
    """What to do with a group."""

    action = forms.ChoiceField(choices=[("retry", "Retry"), ("purge", "Purge")])
    group_id = forms.CharField(validators=[RegexValidator(r"^[0-9a-f]{16}$")])
    per_second = forms.FloatField(min_value=0.001, max_value=1000, initial=10, required=False)


@admin.register(PacedRetry)
class PacedRetryAdmin(ReadOnlyAdmin[PacedRetry]):
    """Paced retries of all tenants, newest first; the page of causes begins them."""

    list_display = ("id", "state", "progress", "per_second", "tenant", "created_by", "created_at")
    list_filter = ("state",)
    list_select_related = ("tenant",)
    ordering = ("-id",)
    sortable_by = ()
    actions = ("abort_selected",)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Allow those who hold `operate_task`."""
        return request.user.has_perm("tasks_app.operate_task")

    @override
    def get_urls(self) -> list[URLPattern]:
        """Add the page of causes."""
        causes = path("causes/", self.admin_site.admin_view(self.causes), name=CAUSES)
        return [causes, *super().get_urls()]

    @admin.display
    def progress(self, retry: PacedRetry) -> str:
        """Show how many were looked at, of how many."""
        more = "+" if retry.total_is_capped else ""
        return f"{retry.retried} retried, {retry.skipped} skipped of {retry.total}{more}"

    @admin.action(description="Abort the selected retries", permissions=["operate"])
    def abort_selected(self, request: HttpRequest, queryset: QuerySet[PacedRetry]) -> None:
        """End those that go on."""
        for retry in queryset:
            try:
                abort_paced_retry(caller=_caller(request, retry.tenant_id), retry_id=retry.id)
            except StateConflict as error:
                self.message_user(request, f"{retry.id}: {error.detail}", messages.WARNING)
            else:
                self.message_user(request, f"{retry.id} aborted.", messages.SUCCESS)

    def causes(self, request: HttpRequest) -> HttpResponse:
        """Show the dead letters of a tenant by cause; retry a group at a pace, or purge it."""
        if not request.user.has_perm("tasks_app.view_task"):
            raise PermissionDenied
        tenants = list(Tenant.objects.order_by("slug")[:MAX_TENANTS_OFFERED])
        tenant = _tenant(request, tenants)
        if request.method == "POST" and tenant is not None:
            self._act(request, tenant)
            return HttpResponseRedirect(f"{reverse(f'admin:{CAUSES}')}?tenant={tenant.pk}")
        groups, is_capped = ([], False) if tenant is None else _groups(tenant)
        context = self.admin_site.each_context(request) | {
            "title": "Dead letters by cause",
            "tenants": tenants,
            "tenant": tenant,
            "groups": groups,
            "is_capped": is_capped,
            "is_operator": self.has_operate_permission(request),
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/tasks_app/pacedretry/causes.html", context)

    def _act(self, request: HttpRequest, tenant: Tenant) -> None:
        if not self.has_operate_permission(request):
            raise PermissionDenied
        form = CauseForm(request.POST)
        if not form.is_valid():
            self.message_user(request, form.errors.as_text(), messages.ERROR)
            return
        caller, chosen = _caller(request, tenant.pk), form.cleaned_data
        wanted = DeadLetterFilter(group_id=chosen["group_id"])
        if chosen["action"] == "purge":
            count = purge_dead_letters(caller=caller, wanted=wanted)
            self.message_user(request, f"{count} purged.", messages.SUCCESS)
            return
        pace = chosen["per_second"] or 10.0
        begun = begin_paced_retry(caller=caller, wanted=wanted, per_second=pace)
        text = f"Retrying {begun['total']} at {pace:g} a second."
        self.message_user(request, text, messages.SUCCESS)


def _groups(tenant: Tenant) -> tuple[list[dict[str, Any]], bool]:
    return dead_letters_by_cause(tenant_id=tenant.pk, wanted=DeadLetterFilter())


def _tenant(request: HttpRequest, tenants: list[Tenant]) -> Tenant | None:
    chosen = request.GET.get("tenant", "")
    if chosen:
        return get_object_or_404(Tenant, pk=int(chosen) if chosen.isdecimal() else 0)
    return tenants[0] if tenants else None


def _caller(request: HttpRequest, tenant_id: int) -> Caller:
    return Caller(tenant_id=tenant_id, actor=f"admin:{request.user.get_username()}"[:120])
