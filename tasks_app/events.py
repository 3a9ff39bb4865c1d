"""The catalogue of task events: what each verb is called outside.

Every event row, log line, metric and push derives from these names (the CloudEvents `type`). A row
is written in the same statement as the change it reports, by `tasks_app.transitions` and
`tasks_app.progress` alone.
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


FINAL_EVENT_OF_STATE: dict[str, EventType] = {
    "success": EventType.SUCCEEDED,
    "failed": EventType.FAILED,
    "error": EventType.ERROR,
    "cancelled": EventType.CANCELLED,
    "timeout": EventType.TIMEOUT,
}
