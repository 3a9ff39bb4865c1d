"""The shapes in which tasks and their history are shown: one model each, for the OpenAPI document.

`task_object` and `history` build plain dictionaries of these fields, unvalidated; the fields of
`Task` decide which columns `task_object` shows, and a test holds every answer of the API against
its model.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from tasks_app.events import EventType, PlatformEventType
from tasks_app.states import State, Status

Seconds = Annotated[int, Field(description="Seconds.")]


class TaskFailure(BaseModel):
    """Why an attempt or a task ended without a result."""

    code: str = Field(description="Upper-case identifier such as `NETWORK_ERROR`; test this.")
    type: str = Field(description="Class of the exception; `taskmill` for the platform's own.")
    message: str
    retryable: bool = Field(description="Whether the same attempt may succeed later.")
    attempt: int


class QueuePaused(BaseModel):
    """The task's queue is paused: nothing of it starts until it is resumed."""

    reason: Literal["queue_paused"]
    queue: str
    by: str = Field(description="Who paused it; `api` for a key of another tenant.")
    since: AwareDatetime
    pause_reason: str = Field(description="Why; empty where nothing was said.")


class NotBefore(BaseModel):
    """The task may not start yet."""

    reason: Literal["not_before"]
    run_at: AwareDatetime


class NoWorker(BaseModel):
    """No live worker serves the task's queue."""

    reason: Literal["no_worker"]
    queue: str


class QueueLimit(BaseModel):
    """As many tasks of the queue run as may."""

    reason: Literal["queue_limit"]
    queue: str
    used: int
    limit: int


class ShareLimit(BaseModel):
    """Your tasks hold as many slots of the queue as those of one tenant may."""

    reason: Literal["share_limit"]
    queue: str
    used: int
    limit: int
    max_share: int | None = Field(
        description="Percent of the slots of the queue's live workers; null where some are kept"
        " free since tenants share it."
    )


class ConcurrencyLimit(BaseModel):
    """As many tasks of the concurrency key, or of the task type, run as may."""

    reason: Literal["concurrency_limit"]
    key: str | None = Field(description="The concurrency key; null where the limit is the type's.")
    type: str | None = Field(description="The task type; null where the limit is the key's.")
    used: int
    limit: int
    holders: list[uuid.UUID] = Field(description="Your tasks that hold it, at most 20.")


class RateLimit(BaseModel):
    """As many tasks of the queue, the type or the concurrency key were handed out as may be."""

    reason: Literal["rate_limit"]
    of: Literal["queue", "type", "key"]
    name: str
    rate: str
    until: AwareDatetime = Field(description="When the next one may go.")


class Behind(BaseModel):
    """Other tasks of the queue go first."""

    reason: Literal["behind"]
    position: int = Field(
        description=(
            "How many go first, those handed to workers included, counted up to 10,000. Where"
            " tenants or fair keys share the queue: as many of the others as their shares allow."
        )
    )
    estimated_start: AwareDatetime | None = Field(
        description=(
            "By the pace of the queue's starts; null without one, beyond 10,000, and where another"
            " reason holds the task."
        )
    )


WaitingReason = Annotated[
    QueuePaused
    | NotBefore
    | NoWorker
    | QueueLimit
    | ShareLimit
    | ConcurrencyLimit
    | RateLimit
    | Behind,
    Field(discriminator="reason"),
]


class TaskLinks(BaseModel):
    """Where more of a task is; null for what this installation does not offer."""

    self: str
    events: str
    result: str
    cancel: str
    stream: str | None
    console: str | None


class Task(BaseModel):
    """A task as it is now. `done` is the only thing a client must test."""

    id: uuid.UUID
    type: str
    queue: str
    priority: int = Field(description="Larger is sooner.")
    status: Status = Field(description="The public status.")
    state: State = Field(description="The finer, stored state.")
    done: bool = Field(description="Whether the task has ended, however it ended.")
    version: int = Field(description="Grows with every change; the ETag.")
    progress: float = Field(ge=0, le=100, description="Percent.")
    progress_message: str
    progress_detail: dict[str, Any] | None
    attempt: int = Field(description="Attempts begun; 0 before the first.")
    max_retry: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    run_at: AwareDatetime | None = Field(description="Not before; null for at once.")
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    queue_timeout: Seconds | None
    process_timeout: Seconds
    cancel_requested_at: AwareDatetime | None
    payload: Any = Field(description="As submitted.")
    metadata: dict[str, Any]
    tags: list[str]
    result: Any = Field(description="What the handler returned; null until `success`.")
    error: TaskFailure | None
    concurrency_key: str | None
    max_concurrency: int | None
    concurrency_strategy: Literal["queue", "cancel_newest", "cancel_running", "keep_latest"] = (
        Field(description="What is done where its concurrency key is full.")
    )
    fair_key: str | None = Field(
        description="Tasks with the same one share their tenant's share with those of others."
    )
    waiting: list[WaitingReason] | None = Field(
        description="Why a pending task is not running, the weightiest first; null in lists."
    )
    retry_of: uuid.UUID | None
    schedule: str | None
    parent: uuid.UUID | None = Field(description="The task that submitted it while it ran.")
    root: uuid.UUID | None = Field(description="The first of its line of parents.")
    depth: int = Field(description="How many tasks are above it; 0 without a parent.")
    worker: str | None = Field(description="Who ran it last.")
    links: TaskLinks


class TaskReceipt(BaseModel):
    """What became of a task, for a key that may act on it and not read it."""

    model_config = ConfigDict(extra="forbid")

    id: uuid.UUID
    status: Status
    state: State
    done: bool
    version: int
    links: TaskLinks


class ShownTask(RootModel[Task | TaskReceipt]):
    """The task; a receipt where the key lacks the scope `tasks:read`."""


class WatchToken(BaseModel):
    """A short-lived, read-only token for one task or one tag, safe in a browser."""

    token: str = Field(description="Give it as `?token=`.")
    expires_at: AwareDatetime
    stream_url: str = Field(description="Server-sent events, the token included.")
    ws_url: str = Field(description="WebSocket, the token included.")


class AcceptedTask(Task):
    """A task as submitted, and a token to watch it with."""

    watch: WatchToken


class SubmittedTask(Task):
    """A task that a submission came to, and a token to watch it with while it is not done."""

    watch: WatchToken | None = None


class ShownSubmission(RootModel[SubmittedTask | TaskReceipt]):
    """The task that a submission came to; a receipt where it is another's and the key lacks the
    scope `tasks:read`.
    """


class AcceptedCopy(RootModel[AcceptedTask | TaskReceipt]):
    """The new task; a receipt where the key lacks the scope `tasks:read`."""


class EventData(BaseModel):
    """What changed; further members depend on the event's type."""

    model_config = ConfigDict(extra="allow")

    from_state: State | None = Field(description="Null for the first event.")
    state: State
    status: Status
    attempt: int
    actor: str = Field(description="Who did it: a key, a worker, an operator, a loop.")


class Event(BaseModel):
    """A committed fact about a task, as a CloudEvents 1.0 envelope."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: EventType
    subject: uuid.UUID = Field(description="The task's id.")
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    sequence: int = Field(ge=1, description="Dense from 1 within the task.")
    data: EventData


class PlatformEventData(BaseModel):
    """What happened; further members depend on the event's type."""

    model_config = ConfigDict(extra="allow")

    actor: str = Field(description="Who did it; empty for the platform itself.")


class PlatformEvent(BaseModel):
    """A committed fact about a queue, a worker or a schedule, as a CloudEvents 1.0 envelope."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: PlatformEventType
    subject: str = Field(description="The queue's name, or the worker's or the schedule's id.")
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    sequence: int = Field(ge=1, description="The place in the feed.")
    data: PlatformEventData


class Attempt(BaseModel):
    """One ended run of a task."""

    attempt: int
    worker: str
    outcome: Literal["success", "failed", "timeout", "cancelled", "lost", "interrupted"]
    queued_at: AwareDatetime | None
    started_at: AwareDatetime
    finished_at: AwareDatetime
    error: TaskFailure | None
    traceback: str = Field(default="", description="Only with the scope `tasks:admin`.")


class LogLine(BaseModel):
    """One line that an attempt logged."""

    id: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="Its place; give it as `after`.")
    attempt: int
    at: AwareDatetime
    level: str = Field(description="debug, info, warning or error.")
    message: str
    fields: dict[str, Any]


class DeadLetter(BaseModel):
    """A task out of attempts."""

    id: uuid.UUID
    type: str
    queue: str
    status: Literal["failed", "error", "timeout"]
    attempt: int
    error: TaskFailure | None
    created_at: AwareDatetime
    finished_at: AwareDatetime
    worker: str | None
    tags: list[str]
    frame: str | None = Field(description="Innermost frame of the handler's own code.")
    group_id: str = Field(description="Of its cause, the same at all times; a filter.")


class DeadLetterGroup(BaseModel):
    """Dead letters of one cause: the same type, error code and raising frame."""

    id: str = Field(description="The same at all times; give it as `group_id`.")
    type: str
    code: str
    frame: str | None = Field(description="Innermost frame of the handler's own code.")
    count: int
    first_seen_at: AwareDatetime
    last_seen_at: AwareDatetime
    sample_id: uuid.UUID
    sample_message: str | None
    queues: list[str]


class Worker(BaseModel):
    """A worker process of the installation."""

    id: str
    name: str
    queues: list[str]
    slots: int = Field(description="Tasks that it runs at a time.")
    busy: int
    memory_bytes: int
    started_at: AwareDatetime
    last_seen_at: AwareDatetime
    status: Literal["online", "stopping", "lost"]
