"""What a handler is handed beside its payload: `TaskContext`, and the port through which it
reports.

The context holds the rules (what is coalesced, what is capped, what raises); a `Sink` carries
reports away: the worker's goes to the database (`tasks_app.execution.sink`), the test kit's keeps
them in memory. Progress and log calls never raise and never wait; only `check_cancelled`, `sleep`
and what has to be stored at once (`once`, `checkpoint`, `spawn`, `extend_timeout`) may stop a
handler.
"""

from __future__ import annotations

import contextvars
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import orjson

from tasks_app.clock import monotonic
from tasks_app.errors import TaskCancelled
from tasks_app.jsontext import has_nul, printed_bytes

T = TypeVar("T")

MOST_CHECKPOINT_BYTES: Final = 65_536
MOST_EXTENSION_SECONDS: Final = 604_800
MOST_KEY_CHARACTERS: Final = 150
CHECKPOINT: Final = "taskmill:checkpoint"
_SPAWN: Final = "taskmill:spawn:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an attempt is.

    Attributes:
        percent: 0 to 100.
        message: one line, at most 500 characters.
        detail: `{current, total, unit, meta, steps: [{key, label, state}]}`, each key only where
            known.
    """

    percent: float
    message: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of an attempt's output; `level` is debug, info, warning or error."""

    level: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class Child(NamedTuple):
    """A task that a handler submits by `ctx.spawn`.

    Attributes:
        key: under which its id is stored, so that a later attempt finds it.
        options: those of the API's submission body.
    """

    type: str
    payload: Any
    key: str
    options: Mapping[str, Any]


class Sink(Protocol):
    """Where a context's reports go; implementations coalesce, and raise only from what is stored
    at once.
    """

    def progress(self, progress: Progress) -> None:
        """Take the newest progress."""

    def log(self, line: LogLine) -> None:
        """Take a log line."""

    def is_cancel_requested(self) -> bool:
        """Say whether somebody asked the task to stop; cheap enough for a tight loop."""

    def once(self, key: str, function: Callable[[], Any]) -> Any:
        """Run `function` unless an attempt stored its value under `key`; give that value."""

    def store(self, key: str, text: str) -> None:
        """Store a value (JSON text) under `key`, in the place of the one before."""

    def stored(self, key: str) -> Any:
        """Give the value stored under `key` by any attempt, None where there is none."""

    def spawn(self, child: Child, context: TaskContext) -> Any:
        """Submit a child unless an attempt did under its key; give its handle."""

    def extend(self, seconds: float) -> tuple[datetime, float]:
        """Move the deadline to at least so many seconds from now; give it, and the same instant on
        the monotonic clock.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """The facts of one attempt, as claimed.

    Attributes:
        task_id: the task's UUID.
        attempt: 1 for the first run since submission.
        epoch: fencing token: grows with every claim; hand it to callees that can compare it.
        attempts_left: attempts that may still follow this one.
        deadline: when the process timeout ends this attempt (aware UTC), or None in tests.
        deadline_monotonic: the same instant on this machine's monotonic clock.
        root: the first task of the line of parents, or None where it is this one.
        depth: how many tasks are above it.
    """

    task_id: uuid.UUID
    type: str
    queue: str
    tenant: str
    attempt: int = 1
    epoch: int = 1
    attempts_left: int = 0
    priority: int = 0
    deadline: datetime | None = None
    deadline_monotonic: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    worker: str = ""
    traceparent: str | None = None
    root: uuid.UUID | None = None
    depth: int = 0


class TaskLog:
    """`ctx.log`: `ctx.log("text", field=1)`, or `.debug`, `.info`, `.warning`, `.error`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def __call__(self, message: str, **fields: Any) -> None:
        """Log at level info."""
        self._write("info", message, fields)

    def debug(self, message: str, **fields: Any) -> None:
        """Log at level debug."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """Log at level info."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Log at level warning."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Log at level error."""
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self._sink.log(LogLine(level=level, message=str(message), fields=fields))


class TaskContext:
    """What a handler may ask and tell. Safe to use from threads of the handler."""

    def __init__(self, info: AttemptInfo, sink: Sink) -> None:
        self.info = info
        self.log = TaskLog(sink)
        self._sink = sink
        self._steps: list[dict[str, Any]] = []
        self._last = Progress(percent=0.0)
        self._spawned: dict[str, int] = {}

    @property
    def task_id(self) -> uuid.UUID:
        """The task's id."""
        return self.info.task_id

    @property
    def attempt(self) -> int:
        """The number of this attempt, 1 for the first."""
        return self.info.attempt

    @property
    def epoch(self) -> int:
        """The fencing token of this attempt: larger than that of any attempt before it."""
        return self.info.epoch

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of this attempt is final."""
        return self.info.attempts_left <= 0

    @property
    def deadline(self) -> datetime | None:
        """When the process timeout ends this attempt."""
        return self.info.deadline

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds until the process timeout; None where there is none."""
        if self.info.deadline_monotonic is None:
            return None
        return max(0.0, self.info.deadline_monotonic - monotonic())

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The submission's metadata."""
        return self.info.metadata

    @property
    def tags(self) -> tuple[str, ...]:
        """The submission's tags."""
        return self.info.tags

    @property
    def tenant(self) -> str:
        """The tenant's slug."""
        return self.info.tenant

    def idempotency_key(self, name: str = "") -> str:
        """Give a key for a callee that deduplicates: one per task and `name`, for all attempts."""
        return f"{self.info.task_id}:{name}" if name else str(self.info.task_id)

    def progress(
        self,
        percent: float,
        message: str = "",
        *,
        current: float | None = None,
        total: float | None = None,
        unit: str = "",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Report progress; the latest wins, at most four reports a second leave the worker, the
        last one always.

        Args:
            percent: 0 to 100; values outside are clamped.
            message: one line for people.
            current: how many of `total` are done, in `unit`.
            meta: JSON values for those who read the task: `progress.detail.meta`.
        """
        detail: dict[str, Any] = {} if meta is None else {"meta": dict(meta)}
        if current is not None:
            detail["current"] = current
        if total is not None:
            detail["total"] = total
        if unit:
            detail["unit"] = unit
        self._report(percent, str(message)[:500], detail)

    def track(
        self, items: Iterable[T], *, total: int | None = None, message: str = "", unit: str = ""
    ) -> Iterator[T]:
        """Yield the items, report progress after each, and stop here when the task is cancelled.

        Args:
            total: number of items; taken from `len(items)` where it has one.
            message: may hold `{current}` and `{total}`.

        Raises:
            TaskCancelled: somebody asked the task to stop.
        """
        size = total if total is not None else _size_of(items)
        for number, item in enumerate(items, start=1):
            self.check_cancelled()
            yield item
            text = message.format(current=number, total=size) if message else ""
            share = 100.0 * number / size if size else self._last.percent
            self.progress(share, text, current=number, total=size, unit=unit)

    @contextmanager
    def step(self, key: str, label: str = "") -> Iterator[None]:
        """Mark a named step of the task as running, then done (or failed)."""
        self.check_cancelled()
        entry: dict[str, Any] = {"key": key, "label": label or key, "state": "running"}
        self._steps.append(entry)
        self._report(self._last.percent, self._last.message or entry["label"], {})
        try:
            yield
        except BaseException:
            entry["state"] = "failed"
            self._report(self._last.percent, self._last.message, {})
            raise
        entry["state"] = "done"
        self._report(self._last.percent, self._last.message, {})

    def check_cancelled(self) -> None:
        """Stop here if somebody asked the task to stop.

        Raises:
            TaskCancelled: let it pass, after cleaning up.
        """
        if self._sink.is_cancel_requested():
            raise TaskCancelled

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked the task to stop."""
        return self._sink.is_cancel_requested()

    def sleep(self, seconds: float) -> None:
        """Wait, but stop early when the task is cancelled.

        Raises:
            TaskCancelled: somebody asked the task to stop.
        """
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            self.check_cancelled()
            threading.Event().wait(min(left, 0.1))
        self.check_cancelled()

    def once(self, key: str, function: Callable[[], T]) -> T:
        """Give the value of `function()`, run at most once to its end over all attempts of this
        task.

        The value (JSON) is stored under `key` when the function returns; a later attempt is handed
        the stored value. A
        crash between the effect and the store repeats the function: pass `ctx.idempotency_key(key)`
            on to the callee.

        Raises:
            LeaseLost: this attempt is no longer the task's; stop.
        """
        value: T = self._sink.once(key, function)
        return value

    def checkpoint(self, value: Any) -> None:
        """Store how far this task is; a later attempt finds it in `resume`.

        It replaces the checkpoint before, and is stored when this returns: one statement each time.

        Args:
            value: JSON of at most 64 KiB; None for "from the beginning".

        Raises:
            TypeError: the value is not JSON.
            ValueError: it is too large, or cannot be stored.
            LeaseLost: this attempt is no longer the task's; stop.
        """
        text = orjson.dumps(value)
        if (size := printed_bytes(text)) > MOST_CHECKPOINT_BYTES:
            raise ValueError(
                f"the checkpoint has {size} bytes of JSON, the limit is {MOST_CHECKPOINT_BYTES}; "
                "store a cursor, not the data"
            )
        if has_nul(text):
            raise ValueError("the checkpoint holds a NUL character")
        self._sink.store(CHECKPOINT, text.decode())

    @property
    def resume(self) -> Any:
        """The checkpoint stored last, by an earlier attempt or this one; None where there is none.

        It survives failures, timeouts and lost workers. Each look is one statement.
        """
        return self._sink.stored(CHECKPOINT)

    def spawn(
        self, task_type: Any, payload: Any = None, *, key: str | None = None, **options: Any
    ) -> Any:
        """Submit a child of this task, once over all attempts, and give its `TaskHandle`.

        The child and the note of it are one transaction, fenced by the epoch: an attempt that
        lost the task submits nothing, a later attempt with the same key is handed the same child
        (`is_existing`), whatever its payload.

        Args:
            task_type: a handler or the name of a type.
            key: at most 150 characters; by default the type and how many of it this attempt has
                spawned. Give one where a later attempt may spawn in another order.
            **options: those of `submit`.

        Raises:
            UnknownTaskType, ValidationFailed, QuotaExceeded, TaskTooDeep, TooManyChildren: as
                `submit` does.
            LeaseLost: this attempt is no longer the task's; stop.
        """
        name = task_type if isinstance(task_type, str) else task_type.type
        if key is None:
            self._spawned[name] = number = self._spawned.get(name, 0) + 1
            key = f"{name}#{number}"
        elif not 1 <= len(key) <= MOST_KEY_CHARACTERS:
            raise ValueError(f"a key has 1 to {MOST_KEY_CHARACTERS} characters")
        return self._sink.spawn(Child(name, payload, _SPAWN + key, options), self)

    def extend_timeout(self, seconds: float) -> None:
        """Have at least so many seconds left from now; a deadline that is later stays.

        Args:
            seconds: more than 0, at most 604,800 (7 days).

        Raises:
            LeaseLost: this attempt is no longer the task's; stop.
        """
        if not 0 < seconds <= MOST_EXTENSION_SECONDS:
            raise ValueError(f"seconds must be more than 0, at most {MOST_EXTENSION_SECONDS}")
        deadline, instant = self._sink.extend(seconds)
        self.info = replace(self.info, deadline=deadline, deadline_monotonic=instant)

    def _report(self, percent: float, message: str, detail: dict[str, Any]) -> None:
        if self._steps:
            detail["steps"] = [dict(step) for step in self._steps]
        bounded = min(100.0, max(0.0, float(percent)))
        self._last = Progress(percent=bounded, message=message, detail=detail)
        self._sink.progress(self._last)


def _size_of(items: Iterable[Any]) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]  # asked, not assumed: iterables without a length raise
    except TypeError:
        return None


_current: contextvars.ContextVar[TaskContext | None] = contextvars.ContextVar(
    "taskmill_task", default=None
)


def current_task() -> TaskContext | None:
    """Give the context of the task that this code runs in; None outside a task."""
    return _current.get()


def add_task(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Say in a log line which attempt it is of; a processor for structlog."""
    if (context := _current.get()) is not None:
        info = context.info
        facts = {"task_id": str(info.task_id), "attempt": info.attempt, "worker": info.worker}
        return facts | dict(fields)
    return fields


@contextmanager
def running_in(context: TaskContext) -> Iterator[None]:
    """Make `current_task()` answer with `context` for the duration."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
