"""Celery's result backend.

`AsyncResult(task_id)` of a platform task reads its row, everything else is django-celery-results'.

Nothing is ever written for a platform task: its row is the only truth. Platform ids are UUIDs of
version 7, Celery's own are of version 4, so ordinary Celery tasks cost no further query.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from celery import states
from celery.exceptions import TaskRevokedError
from django_celery_results.backends.database import DatabaseBackend

from tasks_app.models import Task
from tasks_app.models.history import Attempt
from tasks_app.states import State

POLL_SECONDS: Final = 0.05
PROGRESS: Final = "PROGRESS"
PLATFORM_UUID_VERSION: Final = 7

_FIELDS: Final = (
    *("id", "type", "state", "payload", "result", "error", "progress", "progress_message"),
    *("progress_detail", "finished_at", "started_at", "worker", "queue", "attempt", "epoch"),
    "cancel_reason",
)


class TaskFailed(Exception):
    """A platform task did not succeed.

    Attributes:
        code: public error code.
        message: one sentence.
        state: `failed`, `error`, `timeout` or `retrying`.
    """

    def __init__(self, code: str, message: str, state: str) -> None:
        super().__init__(code, message, state)
        self.code = code
        self.message = message
        self.state = state

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def platform_id(task_id: object) -> uuid.UUID | None:
    """Give the UUID of what may be a platform task, None for ordinary Celery ids."""
    try:
        parsed = uuid.UUID(str(task_id))
    except ValueError:
        return None
    return parsed if parsed.version == PLATFORM_UUID_VERSION else None


def celery_state(row: dict[str, Any]) -> str:
    """Give the Celery state of a task row."""
    match row["state"]:
        case State.RUNNING | State.CANCELLING:
            is_told = row["progress"] or row["progress_message"]
            return str(_meta(row).get("state") or (PROGRESS if is_told else states.STARTED))
        case State.RETRYING:
            return states.RETRY
        case State.SUCCESS:
            return states.SUCCESS
        case State.CANCELLED:
            return states.REVOKED
        case State.FAILED | State.ERROR | State.TIMEOUT:
            return states.FAILURE
        case _:
            return states.PENDING


def _meta(row: dict[str, Any]) -> dict[str, Any]:
    """Give what an adopted task told by `update_state`: `{state, info}`."""
    return (row["progress_detail"] or {}).get("meta") or {}


def _result(row: dict[str, Any]) -> Any:
    match row["state"]:
        case State.SUCCESS:
            return row["result"]
        case State.CANCELLED:
            return TaskRevokedError(row["cancel_reason"] or "cancelled")
        case State.RETRYING | State.FAILED | State.ERROR | State.TIMEOUT:
            error = row["error"] or {}
            return TaskFailed(error.get("code", ""), error.get("message", ""), row["state"])
        case State.RUNNING | State.CANCELLING:
            if "info" in (meta := _meta(row)):
                return meta["info"]
            shown = {"percent": row["progress"], "message": row["progress_message"]}
            return {"current": None, "total": None, **(row["progress_detail"] or {}), **shown}
        case _:
            return None


class TaskmillBackend(DatabaseBackend):  # type: ignore[misc]  # ships no types
    """See the module."""

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        row = self._find(task_id)
        if row is None:
            found: dict[str, Any] = super()._get_task_meta_for(task_id)
            return found
        status = celery_state(row)
        return {
            "task_id": str(row["id"]),
            "status": status,
            "result": _result(row),
            "traceback": self._traceback(row) if status in states.EXCEPTION_STATES else None,
            "children": [],
            "date_done": row["finished_at"],
            "name": row["type"],
            "args": [row["payload"]],
            "kwargs": {},
            "worker": row["worker"],
            "queue": row["queue"],
            "retries": max(0, row["attempt"] - 1),
        }

    def _find(self, task_id: object) -> dict[str, Any] | None:
        known = platform_id(task_id)
        if known is None:
            return None
        row: dict[str, Any] | None = Task.objects.filter(id=known).values(*_FIELDS).first()
        return row

    def _traceback(self, row: dict[str, Any]) -> str | None:
        found = Attempt.objects.filter(task_id=row["id"], epoch=row["epoch"])
        return found.values_list("traceback", flat=True).first() or None

    def _is_platform(self, task_id: object) -> bool:
        known = platform_id(task_id)
        return known is not None and Task.objects.filter(id=known).exists()

    def _store_result(self, task_id: str, result: Any, *args: Any, **options: Any) -> Any:
        if self._is_platform(task_id):
            return result
        return super()._store_result(task_id, result, *args, **options)

    def _forget(self, task_id: str) -> None:
        if not self._is_platform(task_id):
            super()._forget(task_id)

    def wait_for(
        self, task_id: str, timeout: float | None = None, interval: float = 0.5, **options: Any
    ) -> Any:
        """Wait for a task; a platform task is looked at every 50 ms."""
        if platform_id(task_id) is not None:
            interval = min(interval, POLL_SECONDS)
        return super().wait_for(task_id, timeout=timeout, interval=interval, **options)
