"""The shapes in which webhooks are asked for and shown: for the OpenAPI document and the views."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from notifications.models import WebhookDelivery, WebhookEndpoint, WebhookTry
from notifications.webhooks.verdict import DeliveryState
from tasks_app.platform import PLATFORM_EVENTS, PUBLIC_EVENTS
from tasks_app.rest import Strict, Tag, Text

_TYPES: Final = PUBLIC_EVENTS | PLATFORM_EVENTS


def _event_type(name: str) -> str:
    if name not in _TYPES:
        raise PydanticCustomError(
            "event_type", "there is no event type {name}", {"name": name[:100]}
        )
    return name


EventTypeName = Annotated[
    str,
    AfterValidator(_event_type),
    WithJsonSchema({"type": "string", "enum": sorted(_TYPES)}),
]
ReceiverUrl = Annotated[
    Text,
    Field(min_length=1, max_length=2048),
    WithJsonSchema({"type": "string", "format": "uri", "minLength": 1, "maxLength": 2048}),
]
Types = Annotated[list[EventTypeName], Field(max_length=50)]
Tags = Annotated[list[Tag], Field(max_length=50)]
Description = Annotated[Text, Field(max_length=200)]
PageUrl = Annotated[str | None, Field(description="Address of that page; null without one.")]


class NewWebhook(Strict):
    """An endpoint to be made."""

    url: ReceiverUrl = Field(description="Where events are sent; https.")
    description: Description = ""
    types: Types = Field(
        default_factory=list,
        description="Event types; empty for those of tasks but `task.progress` and `task.log`."
        " Those of queues and workers need the scope `tasks:admin` too, those of schedules"
        " `schedules:write`.",
    )
    tags: Tags = Field(
        default_factory=list,
        description="Only of tasks with one of these tags; empty for all. With tags, nothing of"
        " queues, workers and schedules, which have none.",
    )


class WebhookChanges(Strict):
    """What to change of an endpoint; what is left out or null stays."""

    url: ReceiverUrl | None = None
    description: Description | None = None
    types: Types | None = None
    tags: Tags | None = None
    enabled: bool | None = None


class NewTaskWebhook(Strict):
    """A receiver of one task's final event."""

    url: ReceiverUrl = Field(description="Where the event is sent; https.")


class Webhook(BaseModel):
    """An endpoint that gets a tenant's events."""

    id: uuid.UUID
    url: str
    description: str
    types: list[str] = Field(
        description="Empty for those of tasks but `task.progress` and `task.log`."
    )
    tags: list[str] = Field(description="Only of tasks with one of these; empty for all.")
    enabled: bool
    disabled_reason: str | None
    disabled_at: AwareDatetime | None
    failing_since: AwareDatetime | None = Field(description="First failure since a success.")
    failures: int = Field(description="Failed tries since a success.")
    previous_secret_until: AwareDatetime | None = Field(
        description="Until then the secret before the last rotation signs too."
    )
    created_at: AwareDatetime
    updated_at: AwareDatetime


class WebhookWithSecret(Webhook):
    """A new endpoint with its secret, which is shown in this answer and replays of it alone."""

    secret: str = Field(description="`whsec_...`, for the verification of signatures.")


class WebhookSecret(BaseModel):
    """A new secret, which is never shown again."""

    secret: str
    previous_secret_until: AwareDatetime | None


class WebhookList(BaseModel):
    """A page of endpoints, newest first."""

    results: list[Webhook]
    next: PageUrl
    previous: PageUrl


class WebhookDeliveryShown(BaseModel):
    """One event for one receiver."""

    id: uuid.UUID = Field(description="The `webhook-id` of every try.")
    webhook: uuid.UUID | None = Field(description="The endpoint; null for an address of a task.")
    task_id: uuid.UUID | None
    url: str | None = Field(description="The task's address; null for an endpoint's.")
    event: str = Field(description="The event's id.")
    event_type: str
    state: DeliveryState
    tries: int
    next_try_at: AwareDatetime | None = Field(description="Null once it is settled.")
    in_flight: bool = Field(description="Whether a try is under way.")
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    last_status: int | None = Field(description="HTTP status of the last try that was answered.")
    last_error: str | None = Field(description="Word for what went wrong in the last try.")


class WebhookTryShown(BaseModel):
    """One try."""

    number: int
    at: AwareDatetime = Field(description="When it ended.")
    duration_ms: int
    status: int | None
    error: str | None
    detail: str
    address: str | None = Field(description="The address that was dialled.")
    response_head: str = Field(description="The beginning of the answer, at most 1 KiB.")


class WebhookDeliveryDetail(WebhookDeliveryShown):
    """A delivery with what is sent, and the log of its tries."""

    body: str = Field(description="The exact body.")
    log: list[WebhookTryShown] = Field(description="The newest hundred tries, newest first.")


class WebhookDeliveryList(BaseModel):
    """A page of deliveries, newest first."""

    results: list[WebhookDeliveryShown]
    next: PageUrl
    previous: PageUrl


class TaskWebhook(BaseModel):
    """A receiver of one task's final event."""

    task_id: uuid.UUID
    url: str


def webhook_object(row: WebhookEndpoint) -> dict[str, Any]:
    """Give an endpoint as `Webhook`."""
    same = ("id", "url", "description", "types", "tags", "disabled_at", "failing_since", "failures")
    return {name: getattr(row, name) for name in (*same, "created_at", "updated_at")} | {
        "enabled": row.is_enabled,
        "disabled_reason": row.disabled_reason or None,
        "previous_secret_until": row.previous_until,
    }


def delivery_object(row: WebhookDelivery) -> dict[str, Any]:
    """Give a delivery as `WebhookDeliveryShown`."""
    same = ("id", "task_id", "event", "event_type", "state", "tries", "created_at", "finished_at")
    is_pending = row.state == DeliveryState.PENDING
    return {name: getattr(row, name) for name in (*same, "last_status")} | {
        "webhook": row.endpoint_id,
        "url": row.url or None,
        "next_try_at": row.next_try_at if is_pending else None,
        "in_flight": is_pending and row.leased_until is not None,
        "last_error": row.last_error or None,
    }


def try_object(row: WebhookTry) -> dict[str, Any]:
    """Give a try as `WebhookTryShown`."""
    same = ("number", "at", "duration_ms", "status", "detail", "response_head")
    return {name: getattr(row, name) for name in same} | {
        "error": row.error or None,
        "address": row.address or None,
    }
