"""The AsyncAPI 3.1 document: servers, channels, operations, and the messages on each.

Event types come from the catalogue (`tasks_app.events`), the frames of the WebSocket from
the models that encode them. An operation is named from the platform's side: it sends events and
receives what clients ask for.
Source: https://www.asyncapi.com/docs/reference/specification/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from notifications.asyncapi.messages import MESSAGES, MODELS
from notifications.websocket.closing import MEANINGS
from tasks_app.rest import to_json

_SCHEMA: Final = "#/components/schemas/{model}"
_TASK_ID: Final = {"task_id": {"description": "The task's id, a UUID."}}
_CLIENT: Final = ("subscribe", "unsubscribe", "ping")
_ANSWERS: Final = ("ack", "error", "pong", "delivery", "closing")


@cache
def asyncapi_document() -> bytes:
    """Give the document as JSON."""
    return to_json(build_document())


def build_document() -> dict[str, Any]:
    """Give the document as plain values."""
    channels = _channels()
    return {
        "asyncapi": "3.1.0",
        "id": "urn:taskmill:events",
        "info": {
            "title": "Taskmill events",
            "version": "1",
            "description": "One gap-free, ordered feed of committed events, over every transport. "
            "The requests of the API are in the OpenAPI document at /api/schema.",
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": channels,
        "operations": _operations(channels),
        "components": {
            "messages": {name: _message(name) for name in MESSAGES},
            "schemas": _schemas(),
            "securitySchemes": _security(),
        },
    }


def _servers() -> dict[str, Any]:
    parts = urlsplit(settings.PUBLIC_URL)
    security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _security()]
    web = {"host": parts.netloc, "pathname": parts.path or "/", "security": security}
    sockets = parts.scheme.replace("http", "ws")
    return {
        "web": web | {"protocol": parts.scheme, "description": "Server-sent events, webhooks."},
        "sockets": web | {"protocol": sockets, "description": "WebSocket and SignalR."},
        "mqtt": {
            "host": "{host}",
            "protocol": "mqtt",
            "protocolVersion": "5.0",
            "description": "The broker that `MQTT_URL` names, where it is set.",
            "variables": {"host": {"description": "Host and port of that broker."}},
        },
    }


def _security() -> dict[str, Any]:
    return {
        "apiKey": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "tm_<environment>_<id>_<secret>",
            "description": "An API key with the scope `tasks:read`.",
        },
        "watchToken": {
            "type": "httpApiKey",
            "name": "token",
            "in": "query",
            "description": "Short-lived, for one task or one tag; safe in a page.",
        },
        "ticket": {
            "type": "httpApiKey",
            "name": "ticket",
            "in": "query",
            "description": "One-time, from `POST /api/v1/ws-tickets`; for WebSockets.",
        },
        "signalrToken": {
            "type": "httpApiKey",
            "name": "access_token",
            "in": "query",
            "description": "Any of these, as SignalR clients send it.",
        },
    }


def _channel(
    address: str | None, server: str, messages: Iterable[str], description: str, **more: Any
) -> dict[str, Any]:
    named = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    return {
        "address": address,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": named,
        "description": description,
    } | more


def _channels() -> dict[str, Any]:
    return _socket_channels() | _http_channels() | _mqtt_channels()


def _socket_channels() -> dict[str, Any]:
    codes = "\n".join(f"- {int(code)}: {meaning}" for code, meaning in MEANINGS.items())
    closing = f"\n\nClose codes; the reason is JSON with `code` and `after`:\n\n{codes}"
    query = {
        name: {"type": "string"} for name in ("token", "ticket")
    }  # a bearer header stands in for both
    cursor = {"after": {"type": "string", "pattern": "^[0-9]{1,18}$"}}
    return {
        "events": _channel(
            "/ws/v1/events",
            "sockets",
            (*_CLIENT, *_ANSWERS),
            f"Any number of subscriptions on one WebSocket.{closing}",
            bindings={"ws": {"query": {"type": "object", "properties": query}}},
        ),
        "task": _channel(
            "/ws/v1/tasks/{task_id}",
            "sockets",
            ("ping", *_ANSWERS),
            f"One task, from a snapshot to its end; its subscription has the id 0.{closing}",
            parameters=_TASK_ID,
            bindings={"ws": {"query": {"type": "object", "properties": query | cursor}}},
        ),
        "notifications": _channel(
            "/hubs/notifications",
            "sockets",
            (
                "subscribeToTask",
                "unsubscribeFromTask",
                "taskProgress",
                "taskCompleted",
                "taskFailed",
            ),
            "The SignalR hub, JSON protocol; the messages are the arguments of its invocations.",
        ),
    }


def _http_channels() -> dict[str, Any]:
    return {
        "eventStream": _channel(
            "/api/v1/events/stream",
            "web",
            ("event", "platformEvent", "snapshot", "reset"),
            "Server-sent events: `event` is the type, `id` the sequence, `data` the CloudEvent.",
        ),
        "taskStream": _channel(
            "/api/v1/tasks/{task_id}/stream",
            "web",
            ("event", "snapshot", "reset"),
            "Server-sent events of one task; the final one ends the stream.",
            parameters=_TASK_ID,
        ),
        "webhook": _channel(
            None,
            "web",
            ("webhook",),
            "`POST` to the address of a webhook endpoint, signed by Standard Webhooks.",
        ),
    }


def _mqtt_channels() -> dict[str, Any]:
    status = {"status": {"description": "The public status of a task."}}
    return {
        "mqttTaskStatus": _channel(
            "task/status/{task_id}",
            "mqtt",
            ("mqttStatus",),
            "The status of one task, retained; below the configured prefix.",
            parameters=_TASK_ID,
        ),
        "mqttStatus": _channel(
            "task/status/status/{status}",
            "mqtt",
            ("mqttStatus",),
            "The tasks that reach a status; below the configured prefix.",
            parameters=status,
        ),
        "mqttProgress": _channel(
            "task/progress/{task_id}",
            "mqtt",
            ("mqttProgress",),
            "The progress of one task; below the configured prefix.",
            parameters=_TASK_ID,
        ),
    }


def _operations(channels: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, channel in channels.items():
        for action in ("send", "receive"):
            messages = [
                {"$ref": f"#/channels/{name}/messages/{message}"}
                for message in channel["messages"]
                if MESSAGES[message].action == action
            ]
            if messages:
                found[f"{action}{name[0].upper()}{name[1:]}"] = {
                    "action": action,
                    "channel": {"$ref": f"#/channels/{name}"},
                    "summary": channel["description"].split("\n")[0],
                    "messages": messages,
                }
    return found


def _message(name: str) -> dict[str, Any]:
    message = MESSAGES[name]
    payload = (
        {"$ref": _SCHEMA.format(model=message.payload.__name__)}
        if isinstance(message.payload, type)
        else dict(message.payload)
    )
    shown = {"name": name, "title": message.title, "summary": message.summary, "payload": payload}
    return shown | ({"headers": message.headers} if message.headers else {})


def _schemas() -> dict[str, Any]:
    models: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in MODELS]
    _, definitions = models_json_schema(models, ref_template=_SCHEMA)
    found: dict[str, Any] = _without_discriminators(definitions["$defs"])
    return found


def _without_discriminators(value: Any) -> Any:
    """Leave OpenAPI's form of `discriminator` out: AsyncAPI has another, and needs none here."""
    if isinstance(value, list):
        return [_without_discriminators(one) for one in value]
    if not isinstance(value, dict):
        return value
    is_openapi = (
        isinstance(value.get("discriminator"), dict) and "mapping" in value["discriminator"]
    )
    return {
        key: _without_discriminators(one)
        for key, one in value.items()
        if not (is_openapi and key == "discriminator")
    }
