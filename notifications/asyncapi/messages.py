"""The messages that the AsyncAPI document describes: which model, in which direction."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from notifications.websocket.messages import (
    Ack,
    Closing,
    Delivery,
    Fault,
    Ping,
    Pong,
    Snapshot,
    Subscribe,
    Unsubscribe,
)
from tasks_app.rest import Event, PlatformEvent

_OBJECT: Final[Mapping[str, Any]] = {"type": "object"}


class StreamReset(BaseModel):
    """The cursor is not in the feed any more: forget what came before; snapshots may follow."""

    reason: Literal["cursor_not_in_feed"]
    sequence: int = Field(ge=0, description="What follows comes after this place in the feed.")


class TaskReference(BaseModel):
    """The argument of the hub's methods."""

    taskId: uuid.UUID  # noqa: N815 - SignalR's clients write it so


class TaskProgress(TaskReference):
    """How far a task has come."""

    progress: float = Field(ge=0, le=100, description="Percent.")
    message: str


class TaskCompleted(TaskReference):
    """A task has succeeded."""

    result: Any


class TaskFailed(TaskReference):
    """A task has ended otherwise."""

    error: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of the document.

    Attributes:
        action: what the platform does with it.
        payload: a model, or a JSON Schema.
        headers: JSON Schema of its headers; empty for none.
    """

    title: str
    summary: str
    payload: type[BaseModel] | Mapping[str, Any]
    action: Literal["send", "receive"] = "send"
    headers: Mapping[str, Any] = field(default_factory=dict)


_SIGNED: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "properties": {
        "webhook-id": {"type": "string", "description": "The same for every try."},
        "webhook-timestamp": {"type": "string", "pattern": "^[0-9]+$"},
        "webhook-signature": {"type": "string", "pattern": "^v1,"},
    },
}


def _frame(title: str, model: type[BaseModel], action: Literal["send", "receive"]) -> Message:
    summary = (model.__doc__ or "").strip().split("\n")[0]
    return Message(title=title, summary=summary, payload=model, action=action)


MESSAGES: Final[dict[str, Message]] = {
    "subscribe": _frame("Subscribe", Subscribe, "receive"),
    "unsubscribe": _frame("Unsubscribe", Unsubscribe, "receive"),
    "ping": _frame("Ping", Ping, "receive"),
    "ack": _frame("Acknowledgement", Ack, "send"),
    "pong": _frame("Pong", Pong, "send"),
    "error": _frame("Error", Fault, "send"),
    "delivery": _frame("Event of a subscription", Delivery, "send"),
    "closing": _frame("Last message", Closing, "send"),
    "event": _frame("Event", Event, "send"),
    "platformEvent": _frame("Event of the platform", PlatformEvent, "send"),
    "snapshot": _frame("Snapshot", Snapshot, "send"),
    "reset": _frame("Reset", StreamReset, "send"),
    "webhook": Message(
        title="Delivery to a webhook", summary="An event.", payload=_OBJECT, headers=_SIGNED
    ),
    "mqttStatus": Message(title="Status", summary="A task's status.", payload=_OBJECT),
    "mqttProgress": Message(title="Progress", summary="A task's progress.", payload=_OBJECT),
    "subscribeToTask": Message(
        title="SubscribeToTask",
        summary="`SubscribeToTask(taskId)`.",
        payload=TaskReference,
        action="receive",
    ),
    "unsubscribeFromTask": Message(
        title="UnsubscribeFromTask",
        summary="`UnsubscribeFromTask(taskId)`.",
        payload=TaskReference,
        action="receive",
    ),
    "taskProgress": _frame("TaskProgress", TaskProgress, "send"),
    "taskCompleted": _frame("TaskCompleted", TaskCompleted, "send"),
    "taskFailed": _frame("TaskFailed", TaskFailed, "send"),
}

MODELS: Final[list[type[BaseModel]]] = list(
    dict.fromkeys(one.payload for one in MESSAGES.values() if isinstance(one.payload, type))
)
