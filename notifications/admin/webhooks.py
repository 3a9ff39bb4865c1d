"""The admin's pages of webhooks: endpoints and deliveries of all tenants, read-only but for two
actions. Secrets are not shown, not even sealed."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from typing_extensions import override

from notifications.models import WebhookDelivery, WebhookEndpoint
from notifications.webhooks import services
from notifications.webhooks.selectors import tries_of
from tasks_app.platform import Caller
from tasks_app.public import TaskmillError

MOST_COUNTED: Final = 1_000


class BoundedPaginator(Paginator[Any]):
    """Counts to a thousand, so that a page costs the same however full the table is."""

    @cached_property
    def count(self) -> int:
        """Count the rows there are, up to a thousand."""
        rows: Any = self.object_list
        return len(rows.values_list("pk", flat=True)[:MOST_COUNTED])


class OperatorAdmin(admin.ModelAdmin[Any]):
    """Shows rows; what an operator may do is in actions, for who holds `operate_webhook`."""

    show_full_result_count = False
    paginator = BoundedPaginator
    list_per_page = 50
    sortable_by = ()
    ordering = ("-id",)

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
        """Allow those who hold `operate_webhook`."""
        return request.user.has_perm("notifications.operate_webhook")


def actor_of(request: HttpRequest) -> str:
    """Name the operator."""
    return f"admin:{request.user.get_username()}"[:100]


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(OperatorAdmin):
    """Endpoints, newest first."""

    list_display = (
        "url",
        "tenant",
        "is_enabled",
        "disabled_reason",
        "failures",
        "failing_since",
        "created_at",
    )
    list_select_related = ("tenant",)
    list_filter = ("is_enabled", "tenant")
    exclude = ("secret", "previous_secret")
    actions = ("disable_selected",)

    @admin.action(description="Disable the selected endpoints", permissions=["operate"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[WebhookEndpoint]) -> None:
        """Stop what is pending for them; their tenants may enable them again."""
        actor = actor_of(request)
        count = sum(services.disable_endpoint(endpoint_id=one.id, actor=actor) for one in queryset)
        self.message_user(request, f"{count} disabled.", messages.SUCCESS)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(OperatorAdmin):
    """Deliveries, newest first, with the log of their tries."""

    list_display = (
        "id",
        "tenant",
        "receiver_shown",
        "event_type",
        "state",
        "tries",
        "last_status",
        "last_error",
        "next_try_at",
    )
    list_select_related = ("tenant", "endpoint")
    fields = (
        *("tenant", "receiver_shown", "task_id", "event", "event_type", "state", "tries"),
        *("next_try_at", "leased_until", "created_at", "finished_at", "body", "log"),
    )
    readonly_fields = ("receiver_shown", "log")
    search_fields = ("=id", "=task_id")
    search_help_text = "The id of a delivery or of a task."
    actions = ("resend_selected",)

    @override
    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by a whole id, and nothing by what is none."""
        if not search_term:
            return queryset, False
        try:
            wanted = UUID(search_term.strip())
        except ValueError:
            return queryset.none(), False
        return queryset.filter(id=wanted) | queryset.filter(task_id=wanted), False

    @admin.display(description="receiver")
    def receiver_shown(self, delivery: WebhookDelivery) -> str:
        """Show where it goes."""
        if delivery.endpoint_id is None:
            return delivery.url
        try:
            return delivery.endpoint.url if delivery.endpoint is not None else "-"
        except WebhookEndpoint.DoesNotExist:
            return "a deleted endpoint"

    @admin.display
    def log(self, delivery: WebhookDelivery) -> SafeString:
        """Show the tries; everything that a receiver sent is escaped."""
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{} ms</td><td>{}</td><td>{} {}</td><td>{}</td>"
            "<td><pre>{}</pre></td></tr>",
            (
                (
                    *(one.number, one.at, one.duration_ms, one.status or "-"),
                    *(one.error or "-", one.detail, one.address, one.response_head),
                )
                for one in tries_of(delivery.id)
            ),
        )
        return format_html("<table>{}</table>", rows)

    @admin.action(description="Send the selected deliveries again", permissions=["operate"])
    def resend_selected(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Grant them all their tries anew, from now on."""
        sent, refusals = 0, []
        for one in queryset:
            caller = Caller(tenant_id=one.tenant_id, actor=actor_of(request))
            try:
                services.resend(caller=caller, delivery_id=one.id)
            except TaskmillError as error:
                refusals.append(f"{one.id}: {error.detail}")
            else:
                sent += 1
        if sent:
            self.message_user(request, f"{sent} queued again.", messages.SUCCESS)
        for text in refusals[:5]:
            self.message_user(request, text, messages.WARNING)
