"""The bodies of the API's answers that are not one task: pages, counts, statistics, health.

For the OpenAPI document; the views build plain dictionaries, and a test holds each answer against
its model.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tasks_app.selectors.shapes import (
    Attempt,
    DeadLetter,
    DeadLetterGroup,
    Event,
    LogLine,
    Task,
    Worker,
)
from tasks_app.states import Status

PageUrl = Annotated[str | None, Field(description="Address of that page; null without one.")]


class TaskList(BaseModel):
    """A page of tasks."""

    results: list[Task]
    next: PageUrl
    previous: PageUrl
    count: int = Field(default=0, description="With `count=true`: how many fit, up to 10,000.")
    count_is_capped: bool = Field(default=False, description="With `count=true`: there are more.")


class EventList(BaseModel):
    """Events of a task, oldest first."""

    results: list[Event]
    after: int = Field(description="Give it as `after` for what follows.")


class AttemptList(BaseModel):
    """The ended runs of a task, oldest first."""

    results: list[Attempt]


class LogLineList(BaseModel):
    """Log lines of a task, oldest first."""

    results: list[LogLine]
    after: str = Field(description="Give it as `after` for what follows.")


class BulkAccepted(BaseModel):
    """An item that was taken."""

    status: Literal[200, 202] = Field(description="200 where another task holds its key.")
    id: uuid.UUID


class Fault(BaseModel):
    """One place of a request that is wrong."""

    pointer: str = Field(description="RFC 6901, into the body; `/query/<name>` for a parameter.")
    code: str
    detail: str


class BulkRefused(BaseModel):
    """An item that was not taken."""

    status: int = Field(ge=400, le=499)
    id: uuid.UUID | None = Field(description="The task that holds its unique key.")
    code: str
    detail: str
    errors: list[Fault] = Field(description="The first few places that are wrong.")
    more_errors: int = Field(0, description="How many more there are.")


class BulkOutcome(BaseModel):
    """What became of each item, in the order of the request."""

    accepted: int
    rejected: int
    results: list[BulkAccepted | BulkRefused]


class RetryPolicy(BaseModel):
    """When a failed attempt is repeated; delays in seconds."""

    policy: Literal["fixed", "exponential", "never", "smart", "custom"]
    delay: float = 0
    factor: float = 1
    max_delay: float = 0
    jitter: Literal["none", "equal", "full"] = "none"


class TypeDefaults(BaseModel):
    """What holds for a task of the type whose submission says nothing else."""

    queue: str
    priority: int
    max_retry: int
    process_timeout: int = Field(description="Seconds.")
    queue_timeout: int | None = Field(description="Seconds.")
    retry: RetryPolicy


class TaskType(BaseModel):
    """What can be submitted."""

    type: str
    description: str
    payload_schema: dict[str, Any] = Field(description="JSON Schema, 2020-12.")
    result_schema: dict[str, Any] = Field(description="JSON Schema; empty where undeclared.")
    defaults: TypeDefaults


class TypeStatistics(BaseModel):
    """Numbers over the latest 1,000 tasks of a type."""

    sample: int
    by_status: dict[Status, int]
    success_rate: float | None = Field(description="Among the finished, 0 to 1.")
    average_run_seconds: float | None


class TypeLimits(BaseModel):
    """What holds for the tasks of a type, of all tenants and workers together."""

    concurrency: int | None = Field(description="Most handed out or running at a time, in force.")
    rate: str | None = Field(description="Most handed out in any such time, in force.")
    rate_until: AwareDatetime | None = Field(
        description="When the next one may go; null where one may go now."
    )
    set_concurrency: int | None = Field(description="Set by PATCH; null for what is declared.")
    set_rate: str | None = Field(description="Set by PATCH; null for what is declared.")
    used: int = Field(description="Tasks that are handed out or run; counted where a limit is.")
    changed_by: str | None = Field(description="`api` for a key of another tenant.")
    changed_at: AwareDatetime | None


class TaskTypeWithStatistics(TaskType):
    """A task type with its limits and numbers over its latest tasks."""

    limits: TypeLimits
    statistics: TypeStatistics


class TaskTypeList(BaseModel):
    """All task types by name."""

    results: list[TaskType]


class WorkerList(BaseModel):
    """The workers of the installation."""

    results: list[Worker]
    next: None
    previous: None


class DeadLetterList(BaseModel):
    """A page of dead letters."""

    model_config = ConfigDict(extra="forbid")

    results: list[DeadLetter]
    next: PageUrl
    previous: PageUrl


class DeadLetterGroupList(BaseModel):
    """Dead letters by cause, the largest group first."""

    model_config = ConfigDict(extra="forbid")

    results: list[DeadLetterGroup]
    capped: bool = Field(description="Whether older ones than the newest 5,000 were left out.")
    next: None
    previous: None


class Count(BaseModel):
    """How many tasks were touched."""

    count: int


class Times(BaseModel):
    """Seconds; null where nothing was measured."""

    average: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class Outcome(BaseModel):
    """How the finished tasks of a group ended."""

    count: int
    by_status: dict[Status, int]
    success_rate: float | None = Field(description="Cancelled ones aside, 0 to 1.")
    wait: Times
    run: Times


class CappedOutcome(Outcome):
    """How all finished tasks ended."""

    capped: bool


class Capped(BaseModel):
    """Whether a cap cut off the counting."""

    capped: bool


class Totals(Capped):
    """All kept tasks."""

    tasks: int
    by_status: dict[Status, int]


class GroupNumbers(BaseModel):
    """What waits, runs and finished of one group."""

    pending: int
    processing: int
    finished: Outcome


class QueueNumbers(GroupNumbers):
    """Numbers of a queue."""

    queue: str


class TypeNumbers(GroupNumbers):
    """Numbers of a task type."""

    type: str


class Stats(BaseModel):
    """Numbers about the caller's tasks."""

    window: Literal["1h", "24h", "7d"]
    totals: Totals
    finished: CappedOutcome
    live: Capped
    queues: list[QueueNumbers]
    types: list[TypeNumbers]


class Probe(BaseModel):
    """Whether a process does its work."""

    status: Literal["ok", "unavailable"]


class PartHealth(Probe):
    """How one part is; what follows `check_ms` depends on the part."""

    detail: str
    check_ms: float
    loops: list[str] = []
    online: int = 0
    slots: int = 0
    busy: int = 0
    queues: list[str] = []
    unserved: list[str] = []
    beats: int = 0
    late_seconds: float = 0.0
    publishing: int = 0
    schedules: int = 0
    broken: int = 0


class Parts(BaseModel):
    """The parts of the platform, and those that installed apps add (`beat`)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PartHealth] = Field(init=False)

    database: PartHealth
    broker: PartHealth
    cache: PartHealth
    engine: PartHealth
    workers: PartHealth


class Health(Probe):
    """How every part of the platform is."""

    parts: Parts


class Problem(BaseModel):
    """RFC 9457 problem; `type` opens the page that explains `code`. Some carry more members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"format": "uri"})
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Public and stable; test this.")
    request_id: str
    errors: list[Fault] = Field(description="The places that are wrong, 50 at most.")
