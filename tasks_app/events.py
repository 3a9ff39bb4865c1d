"""The catalogue of events: what each verb of a task is called outside, and what else there is.

Every event row, log line, metric and push derives from these names (the CloudEvents `type`). A row
is written in the same statement as the change it reports: those of tasks by `tasks_app.transitions`
and `tasks_app.progress` alone, the others with a part that `tasks_app.transitions.platform` gives.
"""

from __future__ import annotations

from enum import StrEnum


class EventType(StrEnum):
    """Names of task events; first the history's inner steps, then what subscribers act on."""

    QUEUED = "task.queued"
    BLOCKED = "task.blocked"
    DISPATCHED = "task.dispatched"
    UPDATED = "task.updated"
    LOG = "task.log"

    CREATED = "task.created"
    STARTED = "task.started"
    PROGRESS = "task.progress"
    RETRYING = "task.retrying"
    SUCCEEDED = "task.succeeded"
    FAILED = "task.failed"
    ERROR = "task.error"
    CANCEL_REQUESTED = "task.cancel_requested"
    CANCEL_DELIVERED = "task.cancel_delivered"
    CANCELLED = "task.cancelled"
    TIMEOUT = "task.timeout"
    REDRIVEN = "task.redriven"


class PlatformEventType(StrEnum):
    """Names of the events that are of no task: of the installation, or of a tenant's schedule."""

    QUEUE_PAUSED = "queue.paused"
    QUEUE_RESUMED = "queue.resumed"
    WORKER_ONLINE = "worker.online"
    WORKER_LOST = "worker.lost"
    SCHEDULE_FIRED = "schedule.fired"
    SCHEDULE_MISSED = "schedule.missed"


SCOPE_OF_EVENT: dict[str, str] = {
    PlatformEventType.QUEUE_PAUSED: "tasks:admin",
    PlatformEventType.QUEUE_RESUMED: "tasks:admin",
    PlatformEventType.WORKER_ONLINE: "tasks:admin",
    PlatformEventType.WORKER_LOST: "tasks:admin",
    PlatformEventType.SCHEDULE_FIRED: "schedules:write",
    PlatformEventType.SCHEDULE_MISSED: "schedules:write",
}
"""What a key needs to ask for an event that is of no task."""

INSTALLATION_EVENTS: frozenset[str] = frozenset(
    kind for kind, scope in SCOPE_OF_EVENT.items() if scope == "tasks:admin"
)
"""Those that are of no tenant."""


FINAL_EVENT_OF_STATE: dict[str, EventType] = {
    "success": EventType.SUCCEEDED,
    "failed": EventType.FAILED,
    "error": EventType.ERROR,
    "cancelled": EventType.CANCELLED,
    "timeout": EventType.TIMEOUT,
}
