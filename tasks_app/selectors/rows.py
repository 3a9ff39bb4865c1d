"""The columns of a task as read, and how a result row becomes a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

JSON_COLUMNS: Final = (
    "payload",
    "metadata",
    "result",
    "error",
    "progress_detail",
    "retry_policy",
    "webhook_urls",
)
COLUMNS: Final = (
    "id",
    "tenant_id",
    "type",
    "queue",
    "priority",
    "state",
    "version",
    "event_seq",
    "payload",
    "metadata",
    "tags",
    "result",
    "error",
    "progress",
    "progress_message",
    "progress_detail",
    "max_retry",
    "retry_policy",
    "attempt",
    "created_at",
    "updated_at",
    "run_at",
    "started_at",
    "finished_at",
    "queue_timeout",
    "process_timeout",
    "cancel_requested_at",
    "concurrency_key",
    "max_concurrency",
    "concurrency_strategy",
    "fair_key",
    "unique_key",
    "webhook_urls",
    "retry_of",
    "parent",
    "root",
    "depth",
    "schedule",
    "worker",
)
SELECTED: Final = ", ".join(f"t.{name}" for name in COLUMNS)


def task_row(values: Sequence[Any], *, is_shown: bool = False) -> dict[str, Any]:
    """Give a task's row by column name, from values in the order of `COLUMNS`.

    Args:
        is_shown: keep JSON as the text that it is, for an answer that orjson writes: what is large
            is not taken apart to be put together again, and no number loses a digit. Else it is
            decoded.
    """
    row = dict(zip(COLUMNS, values, strict=True))
    change = as_stored if is_shown else decoded
    for name in JSON_COLUMNS:
        row[name] = change(row[name])
    return row


def as_stored(value: Any) -> Any:
    """Give a jsonb value as orjson writes it without looking into it."""
    return orjson.Fragment(value) if isinstance(value, str | bytes) else value


def decoded(value: Any) -> Any:
    """Decode a jsonb value, which Django's connections give as text."""
    return orjson.loads(value) if isinstance(value, str | bytes) else value
