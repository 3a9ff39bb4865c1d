"""The bodies of webhooks: CloudEvents that say what task they are of, and stay small."""

from __future__ import annotations

from typing import Any, Final

import orjson
from django.conf import settings

from notifications.webhooks.verdict import TEST_EVENT
from tasks_app.platform import FeedEvent, TaskFacts

MOST_BODY_BYTES: Final = 20_480
MOST_RESULT_BYTES: Final = 16_384


def body_of(event: FeedEvent, facts: TaskFacts | None) -> str:
    """Give the body for an event: its envelope, `timestamp`, and its task in `data.task`.

    A final event carries the task's result. What is larger than 20 KiB is left out, with
    `is_abridged` in its place; the task's address has all of it.
    """
    envelope: dict[str, Any] = orjson.loads(event.json)
    envelope["timestamp"] = envelope["time"]
    if event.task_id is None:
        return orjson.dumps(envelope).decode()
    task: dict[str, Any] = {"url": f"{settings.PUBLIC_URL}/api/v1/tasks/{event.task_id}"}
    envelope["data"]["task"] = task
    if facts is not None:
        task |= {"type": facts.type, "queue": facts.queue, "tags": list(facts.tags)}
    whole = envelope | {"data": envelope["data"] | {"task": task | _more(event, facts)}}
    text = orjson.dumps(whole)
    if len(text) > MOST_BODY_BYTES:
        text = orjson.dumps(_abridged(envelope, task))
    return text.decode()


def _more(event: FeedEvent, facts: TaskFacts | None) -> dict[str, Any]:
    if facts is None:
        return {}
    shown: dict[str, Any] = {"metadata": facts.metadata}
    if event.is_final:
        shown["result"] = facts.result
        if facts.is_result_left_out:
            shown["is_abridged"] = True
    return shown


def _abridged(envelope: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    kept = ("from_state", "state", "status", "attempt")
    data: dict[str, Any] = {name: envelope["data"].get(name) for name in kept}
    return envelope | {"data": data | {"task": task | {"is_abridged": True}}}


def test_body(event_id: str, *, at: str) -> str:
    """Give the body of a test event.

    Args:
        at: ISO 8601 instant.
    """
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "/api/v1/webhooks",
            "type": TEST_EVENT,
            "time": at,
            "timestamp": at,
            "datacontenttype": "application/json",
            "data": {"message": "This is a test of your endpoint."},
        }
    ).decode()
