"""A sink that remembers: the test kit's side of the port that `TaskContext` reports through.

It keeps the same promises as the worker's sink to the database; `tests/sink_contract.py` holds both
to them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.utils import timezone
from pydantic_core import to_jsonable_python

from tasks_app.clock import monotonic
from tasks_app.context import Child, LogLine, Progress, TaskContext
from tasks_app.errors import ProcessTimeout
from tasks_app.registry import get_handler
from tasks_app.services.defaults import checked_payload


class Logs(list[LogLine]):
    """The log lines of a run, in order."""

    def has(self, text: str, *, level: str | None = None) -> bool:
        """Say whether a line holds `text`, of one level where it is given."""
        return any(text in line.message for line in self if level in (None, line.level))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """A child that a handler submitted by `ctx.spawn`, in the place of its `TaskHandle`.

    Attributes:
        payload: its JSON values, checked as a submission checks them.
        options: those of its submission.
        is_existing: whether an earlier attempt had submitted it.
    """

    type: str
    payload: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    is_existing: bool = False


class RecordingSink:
    """Keeps what a handler reports in memory.

    Args:
        cancel_after: the look at the cancel flag, counted from 1, that first sees a request; None
            for never.
        once: values that earlier attempts stored, by key, as JSON values.
        deadline_monotonic: instant from which a look raises `ProcessTimeout`; None for never.
    """

    def __init__(
        self,
        *,
        cancel_after: int | None = None,
        once: Mapping[str, Any] | None = None,
        deadline_monotonic: float | None = None,
    ) -> None:
        self.reports: list[Progress] = []
        self.logs = Logs()
        self.once_values: dict[str, Any] = dict(once or {})
        self.spawned: list[Spawned] = []
        self._cancel_after = cancel_after
        self._deadline = deadline_monotonic
        self._ends_at = deadline_monotonic or float("-inf")
        self._looks = 0

    def request_cancel(self) -> None:
        """Let the next look see a request to stop."""
        self._cancel_after = min(self._cancel_after or self._looks + 1, self._looks + 1)

    @property
    def was_cancel_seen(self) -> bool:
        """Whether a look at the cancel flag saw a request."""
        return self._cancel_after is not None and self._looks >= self._cancel_after

    @property
    def is_late(self) -> bool:
        """Whether the deadline is over."""
        return self._deadline is not None and monotonic() >= self._deadline

    def progress(self, progress: Progress) -> None:
        """Keep every report; a worker coalesces them."""
        self.reports.append(progress)

    def log(self, line: LogLine) -> None:
        """Keep a log line."""
        self.logs.append(line)

    def is_cancel_requested(self) -> bool:
        """Count the look and answer it; a look after the deadline is where a timeout strikes.

        Raises:
            ProcessTimeout: the deadline is over.
        """
        if self.is_late:
            raise ProcessTimeout("the process timeout is over")
        self._looks += 1
        return self.was_cancel_seen

    def once(self, key: str, function: Callable[[], Any]) -> Any:
        """Give the stored value, or run `function` and store its value as JSON.

        Raises:
            TypeError: the value cannot be stored as JSON.
        """
        if key not in self.once_values:
            self.once_values[key] = orjson.loads(orjson.dumps(function()))
        return orjson.loads(orjson.dumps(self.once_values[key]))

    def store(self, key: str, text: str) -> None:
        """Store a value (JSON text) in the place of the one before."""
        self.once_values[key] = orjson.loads(text)

    def stored(self, key: str) -> Any:
        """Give the value stored under `key`, None where there is none."""
        return orjson.loads(orjson.dumps(self.once_values.get(key)))

    def spawn(self, child: Child, _context: TaskContext) -> Spawned:
        """Keep a child, once for each key.

        Raises:
            UnknownTaskType, ValidationFailed: as a submission does.
        """
        declared = get_handler(child.type)
        payload = checked_payload(declared, to_jsonable_python(child.payload))
        noted = self.once_values.get(child.key)
        spawned = Spawned(
            type=child.type,
            payload=payload,
            options=dict(child.options),
            id=uuid.UUID(noted) if noted else uuid.uuid4(),
            is_existing=noted is not None,
        )
        self.once_values[child.key] = str(spawned.id)
        self.spawned.append(spawned)
        return spawned

    def extend(self, seconds: float) -> tuple[datetime, float]:
        """Move the deadline, where there is one, to at least so many seconds from now."""
        self._ends_at = ends_at = max(self._ends_at, monotonic() + seconds)
        if self._deadline is not None:
            self._deadline = ends_at
        return timezone.now() + timedelta(seconds=ends_at - monotonic()), ends_at
