"""Which messages an event becomes: pure, called by the sink with a page of the feed.

A subscriber who keeps the largest `sequence` of a task, and passes over what is not above it, sees
every step once and in order, whatever was sent again. Topics are of tasks: events of queues,
workers and schedules are not published here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tasks_app.platform import PUBLIC_EVENTS, FeedEvent, cloud_event, status_of
from tasks_app.public import EventType

_AT_ZERO: Final = frozenset({EventType.CREATED, EventType.STARTED, EventType.REDRIVEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to publish.

    Attributes:
        place: of its event in the page.
        is_retained: whether the broker keeps it for who subscribes later.
        is_lasting: whether the broker keeps it for ever.
    """

    topic: str
    payload: bytes
    place: int
    is_retained: bool = False
    is_lasting: bool = False


def page_messages(events: Sequence[FeedEvent], prefixes: Mapping[str, str | None]) -> list[Message]:
    """Give the messages of a page, in its order; of a task's progress only the newest.

    Args:
        prefixes: what stands before the topics, by slug of the tenant; None publishes nothing.
    """
    newest = {one.task_id: place for place, one in enumerate(events) if _is_progress(one)}
    messages: list[Message] = []
    for place, event in enumerate(events):
        if event.task_id is None:
            continue
        prefix = prefixes[event.row["tenant"]]
        if prefix is None or (_is_progress(event) and newest[event.task_id] != place):
            continue
        messages += _messages_of(event, prefix, place)
    return messages


def _is_progress(event: FeedEvent) -> bool:
    return event.type == EventType.PROGRESS


def _messages_of(event: FeedEvent, prefix: str, place: int) -> list[Message]:
    if _is_progress(event):
        return [
            Message(
                topic=f"{prefix}task/progress/{event.task_id}",
                payload=_payload(event),
                place=place,
            )
        ]
    has_come = _has_come_to_its_status(event)
    if not has_come and (event.type not in PUBLIC_EVENTS or event.type == EventType.LOG):
        return []
    payload = _payload(event)
    retained = Message(
        topic=f"{prefix}task/status/{event.task_id}",
        payload=payload,
        place=place,
        is_retained=True,
    )
    if not has_come:
        return [retained]
    status = status_of(event.row["state"])
    return [
        retained,
        Message(topic=f"{prefix}task/status/status/{status}", payload=payload, place=place),
    ]


def _has_come_to_its_status(event: FeedEvent) -> bool:
    before = event.row["from_state"]
    return before is None or status_of(before) is not status_of(event.row["state"])


def _payload(event: FeedEvent) -> bytes:
    data = cloud_event(event.row)["data"]
    progress, message = _progress(event, data)
    error = data.get("error")
    shown: dict[str, Any] = {
        "task_id": event.task_id,
        "type": event.row["task_type"],
        "event": event.type,
        "status": data["status"],
        "state": data["state"],
        "attempt": data["attempt"],
        "progress": progress,
        "message": message,
        "error": error and {"code": error["code"], "message": error.get("message", "")},
        "sequence": event.sequence,
        "seq": event.seq,
        "time": event.row["at"],
    }
    return orjson.dumps(shown, option=orjson.OPT_UTC_Z)


def _progress(event: FeedEvent, data: Mapping[str, Any]) -> tuple[float, str]:
    """Give the progress that the event tells, else the task's as it is now."""
    if _is_progress(event):
        return data["progress"], data["message"]
    if event.type in _AT_ZERO:
        return 0.0, ""
    return event.row["progress"] or 0.0, event.row["progress_message"] or ""
