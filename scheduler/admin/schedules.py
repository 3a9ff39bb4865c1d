"""Schedules of all tenants and plain Celery tasks: read-only rows, three actions.

What is due when is edited over the API, in the code, or on django-celery-beat's own pages.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override

from scheduler import operating
from scheduler.admin.rendering import timing_text, upcoming_of
from scheduler.models import BeatProcess, Firing, Origin, Schedule
from tasks_app.public import TaskmillError

MOST_COUNTED: Final = 1_000
MOST_FIRINGS: Final = 50
MOST_REFUSALS: Final = 5


class BoundedPaginator(Paginator[Any]):
    """Counts to a thousand, so that a page costs the same however full the table is."""

    @cached_property
    def count(self) -> int:
        """Count the rows there are, up to a thousand."""
        rows: Any = self.object_list
        return len(rows.values_list("pk", flat=True)[:MOST_COUNTED])


class OperatorAdmin(admin.ModelAdmin[Any]):
    """Shows rows; what an operator may do is in actions, for who holds `operate_schedule`."""

    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    sortable_by = ()

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    @override
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow those who may look or operate."""
        return super().has_view_permission(request, obj) or self.has_operate_permission(request)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Allow those who hold `operate_schedule`."""
        return request.user.has_perm("scheduler.operate_schedule")


class ReasonForm(ActionForm):
    """Asks why, beside the action."""

    reason = forms.CharField(required=False, max_length=450, label="Reason (for a pause)")


@admin.register(Schedule)
class ScheduleAdmin(OperatorAdmin):
    """Schedules by key."""

    list_display = (
        *("key", "starts", "due", "owner", "standing", "next_at", "last_outcome"),
        *("last_fired_at", "fired_count", "skipped_count", "missed_count"),
    )
    list_filter = ("status", "origin", "kind", "tenant")
    list_select_related = (
        "tenant",
        "periodic_task__crontab",
        "periodic_task__interval",
        "periodic_task__clocked",
        "periodic_task__solar",
    )
    search_fields = ("key", "periodic_task__task")
    ordering = ("key", "id")
    action_form = ReasonForm
    actions = ("run_selected", "pause_selected", "resume_selected")
    fields = (
        *("key", "starts", "arguments", "due", "owner", "standing", "next_at", "upcoming"),
        *("overlap", "catch_up", "catch_up_most", "spread", "spread_seconds", "expire_seconds"),
        *("pause_after_failures", "options", "last_outcome", "last_fired_at", "last_task_id"),
        *("fired_count", "skipped_count", "missed_count", "failures_in_row", "created_at"),
        *("updated_at", "editing", "instants"),
    )
    readonly_fields = fields

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Bring what the pages show of other tables along."""
        return super().get_queryset(request).select_related(*self.list_select_related)

    @admin.display(ordering="periodic_task__task")
    def starts(self, schedule: Schedule) -> str:
        """Show what it starts."""
        word = "" if schedule.tenant_id is not None else " (Celery)"
        return f"{schedule.periodic_task.task}{word}"

    @admin.display
    def arguments(self, schedule: Schedule) -> str:
        """Show with what."""
        return f"{schedule.periodic_task.args} {schedule.periodic_task.kwargs}"

    @admin.display
    def due(self, schedule: Schedule) -> str:
        """Show its rule."""
        return timing_text(schedule.periodic_task)

    @admin.display
    def owner(self, schedule: Schedule) -> str:
        """Show whose it is, and who declared it."""
        tenant = "-" if schedule.tenant is None else schedule.tenant.slug
        return f"{tenant}, {schedule.get_origin_display()}: {schedule.created_by}"

    @admin.display(description="status")
    def standing(self, schedule: Schedule) -> str:
        """Show where it stands: by whom and why."""
        by = f" by {schedule.status_by}" if schedule.status_by else ""
        why = f": {schedule.status_reason}" if schedule.status_reason else ""
        return f"{schedule.status}{by}{why}"

    @admin.display(description="next instants")
    def upcoming(self, schedule: Schedule) -> SafeString:
        """Show the next five instants, with what jumps of the clocks do to them."""
        return format_html_join(
            "", "<div>{} {}</div>", ((one.at, one.note) for one in upcoming_of(schedule))
        )

    @admin.display
    def editing(self, schedule: Schedule) -> SafeString:
        """Say where it is changed."""
        if schedule.origin == Origin.CODE:
            return format_html("{}", "It is declared in code: change it there.")
        address = reverse(
            "admin:django_celery_beat_periodictask_change", args=[schedule.periodic_task_id]
        )
        return format_html('<a href="{}">Edit the periodic task</a>', address)

    @admin.display(description="latest instants")
    def instants(self, schedule: Schedule) -> SafeString:
        """Show the latest due instants."""
        found = Firing.objects.filter(schedule=schedule).order_by("-nominal_at")[:MOST_FIRINGS]
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    *(one.nominal_at, one.outcome, one.reason or "-"),
                    *(one.task_id or "-", one.actor or one.task_state or "-"),
                )
                for one in found
            ),
        )
        address = reverse("admin:scheduler_firing_changelist")
        link = format_html('<a href="{}?schedule__id__exact={}">All</a>', address, schedule.id)
        return format_html("<table>{}</table>{}", rows, link)

    @admin.action(description="Run the selected schedules now", permissions=["operate"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Start their tasks."""
        self._each(request, queryset, "started", operating.run_any)

    @admin.action(description="Pause the selected schedules", permissions=["operate"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Pause them for the reason given."""
        reason = request.POST.get("reason", "")[:450].replace("\x00", "")

        def pause(*, schedule_id: uuid.UUID, actor: str) -> Any:
            return operating.pause_any(schedule_id=schedule_id, actor=actor, reason=reason)

        self._each(request, queryset, "paused", pause)

    @admin.action(description="Resume the selected schedules", permissions=["operate"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Have them fire again."""
        self._each(request, queryset, "resumed", operating.resume_any)

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Schedule],
        word: str,
        act: Callable[..., Any],
    ) -> None:
        actor = f"admin:{request.user.get_username()}"[:100]
        count, refusals = 0, []
        for one in queryset:
            try:
                act(schedule_id=one.id, actor=actor)
            except TaskmillError as error:
                refusals.append(f"{one.key}: {error.detail}")
            else:
                count += 1
        if count:
            self.message_user(request, f"{count} {word}.", messages.SUCCESS)
        for text in refusals[:MOST_REFUSALS]:
            self.message_user(request, text, messages.WARNING)


@admin.register(Firing)
class FiringAdmin(OperatorAdmin):
    """Due instants, the latest recorded first; `?schedule__id__exact=` gives those of one."""

    list_display = (
        *("nominal_at", "schedule", "outcome", "reason", "is_manual", "actor", "task_id"),
        *("task_state", "recorded_at", "fired_at"),
    )
    list_filter = ("outcome", "is_manual")
    list_select_related = ("schedule",)
    ordering = ("-recorded_at", "-id")

    @override
    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Let a schedule's page link to its instants."""
        return lookup == "schedule__id__exact" or super().lookup_allowed(lookup, value, request)


@admin.register(BeatProcess)
class BeatProcessAdmin(OperatorAdmin):
    """Beats, newest sign of life first."""

    list_display = ("name", "started_at", "last_seen_at")
    ordering = ("-last_seen_at",)
