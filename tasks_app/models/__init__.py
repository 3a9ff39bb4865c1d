"""The store: fields, constraints, indexes; `transitions` writes tasks, `selectors` reads them."""

from tasks_app.models.engine import FailedStep, Leader, StaleResult, WorkerProcess
from tasks_app.models.feed import FeedBatch, FeedCursor
from tasks_app.models.history import Attempt, Event, LogChunk, OnceValue, PurgedTask
from tasks_app.models.limit import Limit, LimitOf
from tasks_app.models.pace import PacedRetry, QueuePace
from tasks_app.models.queue import Queue, QueueOrder
from tasks_app.models.quota import SubmissionMeter, UniqueHold
from tasks_app.models.task import Task
from tasks_app.models.tenancy import ApiKey, IdempotencyRecord, Tenant

__all__ = [
    "ApiKey",
    "Attempt",
    "Event",
    "FailedStep",
    "FeedBatch",
    "FeedCursor",
    "IdempotencyRecord",
    "Leader",
    "Limit",
    "LimitOf",
    "LogChunk",
    "OnceValue",
    "PacedRetry",
    "PurgedTask",
    "Queue",
    "QueueOrder",
    "QueuePace",
    "StaleResult",
    "SubmissionMeter",
    "Task",
    "Tenant",
    "UniqueHold",
    "WorkerProcess",
]
