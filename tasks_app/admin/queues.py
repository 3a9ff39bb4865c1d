"""The admin's queue board: what waits and runs where, settings, pause, resume, retry of the failed,
deletion of the finished.

Numbers here are of all tenants, unlike those of the API.
"""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from typing_extensions import override

from tasks_app.models import Queue, Tenant
from tasks_app.selectors.queues import (
    COUNT_CAP,
    queues_loaded,
    running_by_queue,
)
from tasks_app.selectors.serving import unserved_queues
from tasks_app.services.caller import Caller
from tasks_app.services.queues import (
    MAX_GRACE_SECONDS,
    clean_queue,
    pause_queue,
    queue_changed,
    resume_queue,
    retry_failed,
)
from tasks_app.states import FINISHED

STATUSES: Final = sorted(FINISHED)


class QueueActionForm(ActionForm):
    """What is said beside an action; read anew by those that need it, which say what is wrong."""

    reason = forms.CharField(required=False, label="Reason (pause):")
    status = forms.CharField(
        required=False,
        label="Status (delete):",
        widget=forms.Select(choices=[("", "---"), *((one, one) for one in STATUSES)]),
    )
    grace_period = forms.CharField(
        required=False,
        label="Ended at least so many seconds ago (delete):",
        widget=forms.NumberInput(attrs={"min": 0, "style": "width: 8em"}),
    )


class PauseForm(forms.Form):
    """Why queues are paused."""

    reason = forms.CharField(required=False, max_length=500)


class CleanForm(forms.Form):
    """Which finished tasks of queues to delete."""

    status = forms.ChoiceField(choices=[(one, one) for one in STATUSES])
    grace_period = forms.FloatField(min_value=0, max_value=MAX_GRACE_SECONDS)


@admin.register(Queue)
class QueueAdmin(admin.ModelAdmin[Queue]):
    """Queues by name."""

    list_display = (
        "name",
        "status",
        "ready",
        "handed_out",
        "running",
        "oldest",
        "order",
        "concurrency",
        "rate",
        "pause_reason",
    )
    list_filter = ("is_paused",)
    search_fields = ("name", "description")
    ordering = ("name",)
    action_form = QueueActionForm
    actions = ("pause_selected", "resume_selected", "retry_failed_of_selected", "clean_selected")
    readonly_fields = ("is_paused", "paused_by", "paused_at", "pause_reason", "created_at")

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a queue in use would come back without its settings."""
        return False

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Allow those who hold `steer_queue`."""
        return request.user.has_perm("tasks_app.steer_queue")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Allow those who hold `operate_task`."""
        return request.user.has_perm("tasks_app.operate_task")

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Fix the name once it is in use."""
        return self.readonly_fields if obj is None else (*self.readonly_fields, "name")

    @override
    def save_model(self, request: HttpRequest, obj: Queue, form: Any, change: bool) -> None:
        """Save what was changed alone, for the dispatcher writes to the row meanwhile, and tell."""
        obj.save(update_fields=form.changed_data if change else None)
        queue_changed(obj.name, "taskmill_dispatch" if change else "taskmill_queues")

    @override
    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Count what waits and runs in the queues of the page, once."""
        page = super().get_changelist_instance(request)
        loads, running = queues_loaded([row.pk for row in page.result_list]), running_by_queue()
        with connection.cursor() as cursor:
            unserved = set(unserved_queues(cursor))
        for row in page.result_list:
            more = {"running": running.get(row.pk, 0), "is_unserved": row.pk in unserved}
            row.load = loads[row.pk] | more
        return page

    @admin.display
    def status(self, queue: Any) -> str:
        """Say whether it is paused, and by whom, or waits for a worker."""
        if queue.is_paused:
            return f"paused by {queue.paused_by}"
        return "no worker serves it" if queue.load["is_unserved"] else "open"

    @admin.display
    def ready(self, queue: Any) -> str:
        """Show how many tasks are ready."""
        more = "+" if queue.load["ready"] >= COUNT_CAP else ""
        return f"{queue.load['ready']}{more}"

    @admin.display
    def handed_out(self, queue: Any) -> int:
        """Show how many hints are out."""
        return int(queue.load["dispatched"])

    @admin.display
    def running(self, queue: Any) -> int:
        """Show how many tasks run."""
        return int(queue.load["running"])

    @admin.display(description="oldest waits")
    def oldest(self, queue: Any) -> str:
        """Show how long the task waits that has been ready for longest."""
        seconds = queue.load["oldest_waiting_seconds"]
        return "-" if seconds is None else f"{seconds:.0f} s"

    @admin.action(description="Pause the selected queues", permissions=["steer"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        """Stop starts; what runs goes on."""
        form = PauseForm(request.POST)
        if not form.is_valid():
            self.message_user(request, form.errors.as_text(), messages.ERROR)
            return
        reason = form.cleaned_data["reason"] or "paused in the admin"
        for queue in queryset:
            pause_queue(caller=_caller(request), name=queue.name, reason=reason)
        self.message_user(request, f"{len(queryset)} paused.", messages.SUCCESS)

    @admin.action(description="Resume the selected queues", permissions=["steer"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        """Let tasks start again."""
        for queue in queryset:
            resume_queue(caller=_caller(request), name=queue.name)
        self.message_user(request, f"{len(queryset)} resumed.", messages.SUCCESS)

    @admin.action(
        description="Retry the failed tasks of the selected queues", permissions=["operate"]
    )
    def retry_failed_of_selected(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        """Queue the dead letters of all tenants once more, at most 10,000 of each."""
        tenants = list(Tenant.objects.values_list("pk", flat=True))
        count = sum(
            retry_failed(caller=_caller(request, tenant_id), name=queue.name)
            for queue in queryset
            for tenant_id in tenants
        )
        self.message_user(request, f"{count} queued again.", messages.SUCCESS)

    @admin.action(
        description="Delete finished tasks of the selected queues", permissions=["operate"]
    )
    def clean_selected(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        """Delete tasks of all tenants that ended with a status long enough ago, with their history,
        at most 10,000 of each.
        """
        form = CleanForm(request.POST)
        if not form.is_valid():
            self.message_user(request, form.errors.as_text(), messages.ERROR)
            return
        chosen = {
            "state": form.cleaned_data["status"],
            "grace_seconds": form.cleaned_data["grace_period"],
        }
        tenants = list(Tenant.objects.values_list("pk", flat=True))
        count = sum(
            clean_queue(caller=_caller(request, tenant_id), name=queue.name, **chosen)
            for queue in queryset
            for tenant_id in tenants
        )
        self.message_user(request, f"{count} deleted.", messages.SUCCESS)


def _caller(request: HttpRequest, tenant_id: int = 0) -> Caller:
    """Give who acts; queues are of no tenant."""
    return Caller(tenant_id=tenant_id, actor=f"admin:{request.user.get_username()}"[:120])
