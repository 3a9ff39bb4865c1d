"""Reads of webhooks: pages of endpoints and deliveries, the log of a delivery, the queue's size."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection
from django.db.models import QuerySet

from notifications.models import WebhookDelivery, WebhookEndpoint, WebhookTry

MOST_TRIES_SHOWN: Final = 100
MOST_COUNTED: Final = 100_000

QUEUE: Final = """
SELECT
    (SELECT count(*) FROM (SELECT FROM taskmill_webhook_delivery WHERE state = 'pending'
        ORDER BY next_try_at LIMIT %(most)s) p),
    (SELECT count(*) FROM (SELECT FROM taskmill_webhook_delivery WHERE state = 'pending'
        AND next_try_at <= taskmill_now() ORDER BY next_try_at LIMIT %(most)s) d),
    coalesce((SELECT greatest(extract(epoch FROM taskmill_now() - next_try_at), 0)::float8
        FROM taskmill_webhook_delivery WHERE state = 'pending' ORDER BY next_try_at LIMIT 1), 0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookQueue:
    """How the queue of deliveries stands.

    Attributes:
        pending: deliveries that are not settled, counted up to 100,000.
        due: those of them whose time has come, counted likewise.
        oldest_due_seconds: how long the oldest of these has waited; 0 without one.
    """

    pending: int
    due: int
    oldest_due_seconds: float


def webhook_queue() -> WebhookQueue:
    """Give the size of the queue and its delay, for metrics."""
    with connection.cursor() as cursor:
        cursor.execute(QUEUE, {"most": MOST_COUNTED})
        pending, due, oldest = cursor.fetchone()
    return WebhookQueue(pending=pending, due=due, oldest_due_seconds=oldest)


def endpoints_listed(
    *, tenant_id: int, most: int, position: uuid.UUID | None, is_backward: bool
) -> list[WebhookEndpoint]:
    """Give a page of a tenant's endpoints, newest first; reversed where backward."""
    rows = WebhookEndpoint.objects.filter(tenant_id=tenant_id)
    return list(_paged(rows, position, is_backward=is_backward)[:most])


def deliveries_listed(
    *,
    endpoint_id: uuid.UUID,
    most: int,
    position: uuid.UUID | None,
    is_backward: bool,
) -> list[WebhookDelivery]:
    """Give a page of an endpoint's deliveries without bodies, newest first."""
    rows = WebhookDelivery.objects.filter(endpoint_id=endpoint_id).defer("body")
    return list(_paged(rows, position, is_backward=is_backward)[:most])


def task_deliveries_listed(
    *,
    tenant_id: int,
    task_id: uuid.UUID,
    most: int,
    position: uuid.UUID | None,
    is_backward: bool,
) -> list[WebhookDelivery]:
    """Give a page of a task's deliveries without bodies, to endpoints and to addresses of its own,
    newest first.
    """
    rows = WebhookDelivery.objects.filter(task_id=task_id, tenant_id=tenant_id).defer("body")
    return list(_paged(rows, position, is_backward=is_backward)[:most])


def _paged(rows: QuerySet[Any], position: uuid.UUID | None, *, is_backward: bool) -> QuerySet[Any]:
    if position is not None:
        rows = rows.filter(id__gt=position) if is_backward else rows.filter(id__lt=position)
    return rows.order_by("id" if is_backward else "-id")


def tries_of(delivery_id: uuid.UUID) -> list[WebhookTry]:
    """Give the newest tries of a delivery, newest first."""
    rows = WebhookTry.objects.filter(delivery_id=delivery_id).order_by("-number")
    return list(rows[:MOST_TRIES_SHOWN])
