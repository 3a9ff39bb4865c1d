"""The Python client of Taskmill.

from taskmill_client import Client

with Client() as client:  # TASKMILL_URL, TASKMILL_TOKEN
    task = client.tasks.submit("reports.generate", {"report_id": 42})
    print(task.wait().result)
"""

from __future__ import annotations

from taskmill_client.async_side import AsyncClient, AsyncTask
from taskmill_client.bulk import BulkResult, Submitted
from taskmill_client.errors import (
    ApiError,
    AuthenticationFailed,
    ConfigurationError,
    Conflict,
    InvalidSignature,
    NotFound,
    PermissionRefused,
    ServerUnavailable,
    TaskFailed,
    TaskmillError,
    TooManyRequests,
    UnexpectedAnswer,
    ValidationRefused,
    WaitTimeout,
)
from taskmill_client.events import Event
from taskmill_client.fields import LogLine, Progress, TaskFailure
from taskmill_client.records import (
    DeadLetter,
    DeadLetterGroup,
    DeadLetterGroups,
    Delivery,
    DeliveryTry,
    PacedRetry,
    Webhook,
    WebhookSecret,
)
from taskmill_client.sync_side import Client, Task
from taskmill_client.version import VERSION
from taskmill_client.webhooks import verify_webhook

__version__ = VERSION

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncTask",
    "AuthenticationFailed",
    "BulkResult",
    "Client",
    "ConfigurationError",
    "Conflict",
    "DeadLetter",
    "DeadLetterGroup",
    "DeadLetterGroups",
    "Delivery",
    "DeliveryTry",
    "Event",
    "InvalidSignature",
    "LogLine",
    "NotFound",
    "PacedRetry",
    "PermissionRefused",
    "Progress",
    "ServerUnavailable",
    "Submitted",
    "Task",
    "TaskFailed",
    "TaskFailure",
    "TaskmillError",
    "TooManyRequests",
    "UnexpectedAnswer",
    "ValidationRefused",
    "WaitTimeout",
    "Webhook",
    "WebhookSecret",
    "__version__",
    "verify_webhook",
]
