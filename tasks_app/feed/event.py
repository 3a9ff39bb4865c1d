"""An event with its place in the feed, encoded once however many read it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import orjson

from tasks_app.events import FINAL_EVENT_OF_STATE, EventType, PlatformEventType
from tasks_app.selectors import cloud_event
from tasks_app.selectors.history import event_id

FINAL_EVENTS: Final[frozenset[str]] = frozenset(
    kind.value for kind in FINAL_EVENT_OF_STATE.values()
)
INNER_EVENTS: Final[frozenset[str]] = frozenset(
    {"task.queued", "task.blocked", "task.dispatched", "task.updated"}
)
"""Steps of the history that a subscriber gets only by name."""

PUBLIC_EVENTS: Final[frozenset[str]] = frozenset(
    kind.value for kind in EventType if kind.value not in INNER_EVENTS
)
"""What a subscriber gets who names no types: events of tasks."""

PLATFORM_EVENTS: Final[frozenset[str]] = frozenset(kind.value for kind in PlatformEventType)
"""What is of no task; a subscriber gets it only by name."""


@dataclass(frozen=True, kw_only=True)
class FeedEvent:
    """One event of the feed.

    Attributes:
        sequence: its place; dense over all tenants, grows.
        task_id: None for an event of a queue, a worker or a schedule.
        tenant_id: None for one of the installation.
        seq: its number among the events of its task, dense from 1; 1 without a task.
        tags: of its task, as they are now.
        row: the columns that `selectors.cloud_event` needs; `tenant` (its slug), and `task_type`,
            `progress` and `progress_message` of its task as they are now.
    """

    sequence: int
    task_id: uuid.UUID | None
    tenant_id: int | None
    seq: int
    type: str
    tags: frozenset[str]
    row: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The CloudEvents id."""
        return event_id(self.row)

    @property
    def is_final(self) -> bool:
        """Whether the task finished with it."""
        return self.type in FINAL_EVENTS

    @cached_property
    def json(self) -> bytes:
        """The CloudEvents envelope; `sequence` is the place in the feed, `id` has the task's."""
        envelope = cloud_event(self.row) | {"sequence": self.sequence}
        return orjson.dumps(envelope, option=orjson.OPT_UTC_Z)


def feed_event(row: Mapping[str, Any]) -> FeedEvent:
    """Give the event of a row of `tasks_app.feed.reading`."""
    return FeedEvent(
        sequence=row["sequence"],
        task_id=row["task_id"],
        tenant_id=row["tenant_id"],
        seq=row["seq"],
        type=row["type"],
        tags=frozenset(row["tags"] or ()),
        row=row,
    )
