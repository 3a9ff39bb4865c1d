"""The bodies of the queue board's answers, for the OpenAPI document; see `answers`."""

from __future__ import annotations

import uuid
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field

from tasks_app.api.answers import RetryPolicy
from tasks_app.states import State


class Queue(BaseModel):
    """A queue. A null setting leaves the matter to the platform. Numbers are of your tasks."""

    name: str
    description: str
    order: Literal["priority", "oldest", "newest"] = Field(
        description="Which of its ready tasks go first."
    )
    priority: int | None
    max_retry: int | None
    process_timeout: int | None = Field(description="Seconds.")
    queue_timeout: int | None = Field(description="Seconds.")
    retry: RetryPolicy | None
    ageing_seconds: int | None = Field(
        description="After so long a task gets its turn though others of a larger priority wait."
    )
    max_share: int | None = Field(
        description="Most of its slots that tasks of one tenant may hold, in percent; null for all,"
        " but that while tenants share it one of eight is kept free."
    )
    shared_until: AwareDatetime | None = Field(
        description="Until then slots are kept free, since tenants shared it lately; null where"
        " they did not."
    )
    window_least: int | None = Field(description="Fewest tasks handed to the broker ahead.")
    window_most: int | None = Field(description="Most tasks handed to the broker ahead.")
    concurrency: int | None = Field(description="Most tasks handed out or running at a time.")
    rate: str | None = Field(description="Most tasks handed out in any such time.")
    max_waiting: int | None = Field(description="Most tasks that wait, of all tenants.")
    max_waiting_bytes: int | None = Field(description="Most bytes of payload of those.")
    max_submissions_per_minute: int | None = Field(description="Of all tenants.")
    is_paused: bool
    paused_by: str | None = Field(description="`api` for a key of another tenant.")
    paused_at: AwareDatetime | None
    pause_reason: str | None
    workers: int = Field(description="Live workers that serve it.")
    slots: int = Field(description="Tasks that these run at a time, of all their queues.")
    is_unserved: bool = Field(
        description="Tasks of yours wait in it, it is not paused, and no live worker serves it."
    )
    counts: dict[State, int] = Field(description="Tasks by state; states without any left out.")
    counts_capped: bool = Field(
        description="Whether a cap cut off the counting: more than 10,000 tasks in a state."
    )
    oldest_waiting_seconds: float | None = Field(
        description="How long the one has waited that has been ready for longest."
    )
    finished_last_5_minutes: int


class QueueTask(BaseModel):
    """A running task."""

    id: uuid.UUID
    type: str
    started_at: AwareDatetime
    worker: str | None
    progress: float


class QueueDetail(Queue):
    """A queue with its running tasks."""

    active: list[QueueTask] = Field(description="The longest running first, at most 50.")


class QueueList(BaseModel):
    """Queues by name."""

    results: list[Queue]
    next: None
    previous: None
