"""The admin's pages of tasks: a list that stays fast, a page per task, and two actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from typing_extensions import override

from tasks_app.admin.filters import (
    CreatedFilter,
    QueueFilter,
    StateFilter,
    TenantFilter,
    TypeFilter,
)
from tasks_app.admin.readonly import ReadOnlyAdmin
from tasks_app.admin.rendering import pretty_json, progress_bar, state_badge
from tasks_app.admin.task_actions import (
    MAX_AT_ONCE,
    ActionReport,
    Place,
    cancel_tasks,
    retry_tasks,
)
from tasks_app.admin.task_history import history_of
from tasks_app.admin.task_list import TaskChangeList
from tasks_app.models import Task
from tasks_app.states import FINISHED, REDRIVABLE

Act = Callable[..., ActionReport]


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin[Task]):
    """Tasks of all tenants, for staff with `view_task`; actions need `operate_task`."""

    list_display = (
        "id",
        "state_shown",
        "type",
        "queue",
        "priority",
        "progress_shown",
        "attempt",
        "created_at",
        "worker",
        "tenant",
    )
    list_filter = (StateFilter, TypeFilter, QueueFilter, CreatedFilter, TenantFilter)
    list_per_page = 50
    list_max_show_all = 0
    list_select_related = ("tenant",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    search_fields = ("id",)
    search_help_text = "A task type, or an id or its beginning (4 characters or more)"
    actions = ("cancel_selected", "retry_selected")
    fieldsets = (
        (None, {"fields": ("state_shown", "type", "queue", "tenant", "tags", "progress_shown")}),
        ("Input and output", {"fields": ("payload_shown", "result_shown", "error_shown")}),
        (
            "Times",
            {
                "fields": (
                    ("created_at", "run_at", "queued_at"),
                    ("dispatched_at", "started_at", "finished_at"),
                    ("queue_timeout", "process_timeout"),
                    ("queue_deadline", "run_deadline"),
                )
            },
        ),
        (
            "Attempts",
            {
                "fields": (
                    ("attempt", "max_retry", "rescues", "interrupts"),
                    ("epoch", "dispatch_seq", "version"),
                    ("worker", "lease_expires_at"),
                    "retry_policy_shown",
                )
            },
        ),
        (
            "Cancellation",
            {"fields": (("cancel_requested_at", "cancel_requested_by"), "cancel_reason")},
        ),
        (
            "Origin and limits",
            {
                "fields": (
                    ("submitted_by", "schedule", "retry_of", "parent"),
                    ("priority", "concurrency_key", "max_concurrency", "fair_key", "unique_key"),
                    "metadata_shown",
                )
            },
        ),
    )

    class Media:
        css = {"all": ("tasks_app/admin.css",)}

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may cancel and retry."""
        return request.user.has_perm("tasks_app.operate_task")

    @override
    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Give the list that counts nothing."""
        return TaskChangeList

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """Leave the search to `TaskChangeList`."""
        return queryset, False

    @override
    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Task | None = None,
    ) -> HttpResponse:
        """Add what happened to the task, and the actions that its state allows."""
        if obj is not None:
            is_operator = self.has_operate_permission(request)
            context["history"] = history_of(obj)
            context["can_cancel"] = is_operator and obj.state not in FINISHED
            context["can_retry"] = is_operator and obj.state in REDRIVABLE
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.action(description="Cancel the selected tasks", permissions=["operate"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Cancel pending tasks, ask running ones to stop."""
        self._act(request, queryset, cancel_tasks)

    @admin.action(description="Retry the selected tasks", permissions=["operate"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Task]) -> None:
        """Queue finished tasks that did not succeed once more."""
        self._act(request, queryset, retry_tasks)

    def _act(self, request: HttpRequest, queryset: QuerySet[Task], act: Act) -> None:
        report = act(self._chosen(request, queryset), actor=f"admin:{request.user}"[:120])
        if report.done_text():
            self.message_user(request, report.done_text(), messages.SUCCESS)
        for text in report.refused_texts():
            self.message_user(request, text, messages.WARNING)

    def _chosen(self, request: HttpRequest, queryset: QuerySet[Task]) -> Iterable[Place]:
        if request.POST.get("select_across") == "1":
            known = self.get_changelist_instance(request).paginator.object_list
            queryset = Task.objects.filter(id__in=list(known)[:MAX_AT_ONCE])
            if len(known) > MAX_AT_ONCE:
                self.message_user(request, f"The newest {MAX_AT_ONCE} tasks were taken.")
        return queryset.order_by("-id").values_list("id", "tenant_id")[:MAX_AT_ONCE]

    @admin.display(description="state")
    def state_shown(self, task: Task) -> SafeString:
        """Show the state."""
        return state_badge(task.state)

    @admin.display(description="progress")
    def progress_shown(self, task: Task) -> SafeString:
        """Show the progress."""
        return progress_bar(task.progress, task.progress_message)

    @admin.display(description="payload")
    def payload_shown(self, task: Task) -> SafeString:
        """Show the payload."""
        return pretty_json(task.payload)

    @admin.display(description="result")
    def result_shown(self, task: Task) -> SafeString:
        """Show the result."""
        return pretty_json(task.result)

    @admin.display(description="error")
    def error_shown(self, task: Task) -> SafeString:
        """Show the error."""
        return pretty_json(task.error)

    @admin.display(description="metadata")
    def metadata_shown(self, task: Task) -> SafeString:
        """Show the metadata."""
        return pretty_json(task.metadata)

    @admin.display(description="retry policy")
    def retry_policy_shown(self, task: Task) -> SafeString:
        """Show the retry policy; `-` is the type's."""
        return pretty_json(task.retry_policy)

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Name the shown forms; the plain fields are read-only by permission."""
        return [name for name in dir(type(self)) if name.endswith("_shown")]
