"""Tasks, their progress and their log lines as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskmill_client.events import times
from taskmill_client.wire import JsonObject

PENDING: Final = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a task is.

    Attributes:
        percent: 0 to 100.
        message: what it does now, in the handler's words; may be empty.
        current, total, unit: such as 34 of 68 pages, where the handler counts.
    """

    percent: float = 0.0
    message: str = ""
    current: float | None = None
    total: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailure:
    """Why a task ended without a result; test `code`."""

    code: str
    message: str = ""
    type: str = ""
    retryable: bool = False
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that an attempt logged; give `id` as `after` for what follows."""

    id: str
    attempt: int
    at: datetime
    level: str
    message: str
    fields: JsonObject


class TaskFields:
    """A task as it was when it was last asked for. `done` is the only thing to test.

    `raw` is the JSON object as it came. A key that may not read tasks sees a receipt: `id`,
    `status`, `state`, `done` and `version` alone.
    """

    def __init__(self, raw: JsonObject) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.type} {self.status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskFields) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """Its id, a UUID."""
        return str(self.raw["id"])

    @property
    def type(self) -> str:
        """Which handler runs it."""
        return str(self.raw.get("type", ""))

    @property
    def queue(self) -> str:
        """The queue that it waits in."""
        return str(self.raw.get("queue", ""))

    @property
    def priority(self) -> int:
        """Larger is sooner."""
        return int(self.raw.get("priority") or 0)

    @property
    def status(self) -> str:
        """One of: pending processing success failed error cancelled timeout."""
        return str(self.raw.get("status", PENDING))

    @property
    def state(self) -> str:
        """The finer state."""
        return str(self.raw.get("state", self.status))

    @property
    def done(self) -> bool:
        """Whether it has ended, however it ended."""
        return bool(self.raw.get("done"))

    @property
    def succeeded(self) -> bool:
        """Whether it has ended with a result."""
        return self.status == "success"

    @property
    def version(self) -> int:
        """Grows with every change."""
        return int(self.raw.get("version") or 0)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        detail = self.raw.get("progress_detail") or {}
        return Progress(
            percent=float(self.raw.get("progress") or 0.0),
            message=self.raw.get("progress_message") or "",
            current=detail.get("current"),
            total=detail.get("total"),
            unit=detail.get("unit") or "",
        )

    @property
    def payload(self) -> Any:
        """As submitted."""
        return self.raw.get("payload")

    @property
    def metadata(self) -> JsonObject:
        """As submitted."""
        return self.raw.get("metadata") or {}

    @property
    def tags(self) -> list[str]:
        """As submitted."""
        return list(self.raw.get("tags") or ())

    @property
    def result(self) -> Any:
        """What the handler returned; None until it succeeded."""
        return self.raw.get("result")

    @property
    def error(self) -> TaskFailure | None:
        """Why it ended without a result, or its last attempt did."""
        found = self.raw.get("error")
        return failure_of(found) if found else None

    @property
    def attempt(self) -> int:
        """Attempts begun; 0 before the first."""
        return int(self.raw.get("attempt") or 0)

    @property
    def max_retry(self) -> int:
        """How often it is tried again after the first attempt."""
        return int(self.raw.get("max_retry") or 0)

    @property
    def waiting(self) -> list[JsonObject]:
        """Why it is not running, the weightiest first; empty where it is, and in lists."""
        return list(self.raw.get("waiting") or ())

    @property
    def created_at(self) -> datetime | None:
        """When it was submitted."""
        return times(self.raw, "created_at")

    @property
    def updated_at(self) -> datetime | None:
        """When it changed last."""
        return times(self.raw, "updated_at")

    @property
    def run_at(self) -> datetime | None:
        """Not before; None for at once."""
        return times(self.raw, "run_at")

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began."""
        return times(self.raw, "started_at")

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        return times(self.raw, "finished_at")

    @property
    def cancel_requested_at(self) -> datetime | None:
        """When its cancel was asked for."""
        return times(self.raw, "cancel_requested_at")

    @property
    def worker(self) -> str | None:
        """The worker that runs it."""
        return self.raw.get("worker")

    @property
    def schedule(self) -> str | None:
        """The schedule that made it."""
        return self.raw.get("schedule")

    @property
    def retry_of(self) -> str | None:
        """The task that it repeats."""
        return self.raw.get("retry_of")

    @property
    def parent(self) -> str | None:
        """The task that submitted it."""
        return self.raw.get("parent")

    @property
    def links(self) -> JsonObject:
        """Where more of it is."""
        return self.raw.get("links") or {}


def failure_of(raw: JsonObject) -> TaskFailure:
    """Give a failure of its JSON object."""
    names = TaskFailure.__dataclass_fields__
    return TaskFailure(**{name: raw[name] for name in names if name in raw})


def log_line(raw: JsonObject) -> LogLine:
    """Give a log line of its JSON object."""
    return LogLine(
        id=raw["id"],
        attempt=raw["attempt"],
        at=datetime.fromisoformat(raw["at"]),
        level=raw["level"],
        message=raw["message"],
        fields=raw.get("fields") or {},
    )
