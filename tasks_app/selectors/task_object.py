"""The task object of the API: one function from one row, used wherever a task is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks_app.selectors.shapes import Task, TaskReceipt
from tasks_app.states import FINISHED, status_of

API_ROOT: Final = "/api/v1"
_DERIVED: Final = frozenset(
    {
        "id",
        "status",
        "done",
        "run_at",
        "retry_of",
        "parent",
        "root",
        "fair_key",
        "worker",
        "waiting",
        "links",
    }
)
_AS_STORED: Final = tuple(name for name in Task.model_fields if name not in _DERIVED)


def task_object(
    row: Mapping[str, Any], *, waiting: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Give the task object of a row.

    Args:
        row: as `selectors.find_task` gives it.
        waiting: reasons from `selectors.waiting_reasons`; None where they were not asked for.

    Returns:
        Every field of `shapes.Task`. `run_at` is null for a task that may start since its creation.
    """
    shown: dict[str, Any] = {"id": str(row["id"])}
    shown.update((name, row[name]) for name in _AS_STORED)
    shown["status"] = status_of(row["state"]).value
    shown["done"] = row["state"] in FINISHED
    shown["run_at"] = row["run_at"] if row["run_at"] != row["created_at"] else None
    shown["retry_of"] = _text(row["retry_of"])
    shown["parent"] = _text(row["parent"])
    shown["root"] = _text(row["root"])
    shown["fair_key"] = row["fair_key"] or None
    shown["worker"] = row["worker"] or None
    shown["waiting"] = waiting
    shown["links"] = _links(shown["id"])
    return shown


def task_receipt(shown: Mapping[str, Any]) -> dict[str, Any]:
    """Give of a task object what says what became of the task, and nothing that is in it."""
    return {name: shown[name] for name in TaskReceipt.model_fields}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _links(task_id: str) -> dict[str, str | None]:
    here = f"{API_ROOT}/tasks/{task_id}"
    return {
        "self": here,
        "events": f"{here}/events",
        "result": f"{here}/result",
        "cancel": f"{here}/cancel",
        "stream": f"{here}/stream",
        "console": None,
    }
