"""Where a running attempt's progress, log lines and `once` values go.

The store, on the pool child's connection.

User code only leaves values in memory and rings a bell; one flusher thread per child carries them
away (and writes late successes of bundles): progress coalesced (the latest wins, at most four a
second), log lines in chunks (at most one a second). What is left at the end is written before the
finish. Nothing but `once` ever raises into a handler.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol

import orjson
import psycopg

from tasks_app import progress as store
from tasks_app.clock import monotonic
from tasks_app.context import Child, LogLine, Progress, Sink, TaskContext
from tasks_app.errors import ConfigurationError, LeaseLost
from tasks_app.execution.connection import Connection
from tasks_app.execution.interrupts import Interrupts
from tasks_app.execution.logbuffer import LogBuffer
from tasks_app.execution.outcomes import storable
from tasks_app.registry import Handler
from tasks_app.telemetry import logger
from tasks_app.transitions import Claim

PROGRESS_SECONDS: Final = 0.25
LOG_SECONDS: Final = 1.0

log = logger(__name__)


class AttemptSink:
    """The `Sink` of one attempt.

    Args:
        bell: rung (any value) where something waits to be written.
        is_cancelled: whether the cancel flag is up for this attempt.
        ends_at: monotonic seconds at which its process timeout is over.
        extended: called with a later end.
    """

    def __init__(
        self,
        claim: Claim,
        connection: Connection,
        bell: queue.SimpleQueue[Flushable],
        *,
        lines: LogBuffer,
        interrupts: Interrupts,
        is_cancelled: Callable[[], bool],
        ends_at: float,
        extended: Callable[[float], None],
    ) -> None:
        self._claim = claim
        self._connection = connection
        self._bell = bell
        self._lines = lines
        self._interrupts = interrupts
        self.is_cancel_requested = is_cancelled
        self._extended = extended
        self._ends_at = ends_at
        self._latest: Progress | None = None
        self._is_rung = False
        self._is_closed = False
        self._writing = threading.Lock()
        self._progress_at = self._log_at = float("-inf")

    def progress(self, progress: Progress) -> None:
        """Take the newest progress."""
        self._latest = progress
        self._ring()

    def log(self, line: LogLine) -> None:
        """Take a log line."""
        self._lines.add(monotonic(), line)
        self._ring()

    def once(self, key: str, function: Callable[[], Any]) -> Any:
        """Give the value stored under `key`, or run `function` and store its value.

        Raises:
            LeaseLost: the attempt is not the task's any more.
            TypeError: the value is not JSON.
        """
        found = self._statement(lambda cursor: store.find_once(cursor, self._claim.id, key))
        if found is not None:
            return found[0]
        value = function()
        text = orjson.dumps(value).decode()
        if not self._statement(
            lambda cursor: store.store_once(
                cursor, self._claim.id, epoch=self._claim.epoch, key=key, value=text
            )
        ):
            found = self._statement(lambda cursor: store.find_once(cursor, self._claim.id, key))
            if found is None or orjson.dumps(found[0]) != orjson.dumps(orjson.loads(text)):
                raise LeaseLost(task_id=self._claim.id, epoch=self._claim.epoch)
        return orjson.loads(text)

    def store(self, key: str, text: str) -> None:
        """Store a value (JSON text) under `key`, in the place of the one before.

        Raises:
            LeaseLost: the attempt is not the task's any more.
        """
        task_id, epoch = self._claim.id, self._claim.epoch
        if not self._statement(
            lambda cursor: store.replace_once(cursor, task_id, epoch=epoch, key=key, value=text)
        ):
            raise LeaseLost(task_id=task_id, epoch=epoch)

    def stored(self, key: str) -> Any:
        """Give the value stored under `key` by any attempt, None where there is none."""
        found = self._statement(lambda cursor: store.find_once(cursor, self._claim.id, key))
        return None if found is None else found[0]

    def spawn(self, child: Child, context: TaskContext) -> Any:
        """Submit a child unless an attempt did under its key; give its handle.

        Raises:
            LeaseLost: the attempt is not the task's any more.
        """
        if Handler.spawn_port is None:
            raise ConfigurationError("spawn() needs django.setup() first")
        with self._interrupts.shielded():
            return Handler.spawn_port(child, context)

    def extend(self, seconds: float) -> tuple[datetime, float]:
        """Move the deadline in the store, then for those who watch this process.

        The worker counts from before the statement, so that it acts before the store does.

        Raises:
            LeaseLost: the attempt is not the task's any more.
        """
        task_id, epoch, asked_at = self._claim.id, self._claim.epoch, monotonic()
        deadline = self._statement(
            lambda cursor: store.extend_deadline(cursor, task_id, epoch=epoch, seconds=seconds)
        )
        if deadline is None:
            raise LeaseLost(task_id=task_id, epoch=epoch)
        self._ends_at = max(self._ends_at, asked_at + seconds)
        self._extended(self._ends_at)
        return deadline, self._ends_at

    def _statement(self, statement: Callable[[Any], Any]) -> Any:
        with self._interrupts.shielded():
            return self._connection.run_until(statement, end=monotonic() + 10.0)[0]

    def _ring(self) -> None:
        if not self._is_rung:
            self._is_rung = True
            self._bell.put(self)

    def flush(self, *, is_forced: bool = False) -> float | None:
        """Write what is due; gives the seconds until more is, None where nothing waits.

        Never raises.
        """
        with self._writing:
            if self._is_closed:
                return None
            self._is_rung = False
            now = monotonic()
            try:
                if self._latest is not None and (is_forced or now >= self._progress_due):
                    self._write_progress(now)
                if self._lines and (is_forced or now >= self._log_due):
                    self._write_lines(now)
            except psycopg.Error as error:
                log.warning("report is written later", reason=str(error)[:200])
                return LOG_SECONDS
            return self._seconds_left(now)

    def close(self) -> None:
        """Write what is left and take nothing more."""
        if self._latest is not None or self._lines or self._is_rung:
            self.flush(is_forced=True)
        with self._writing:
            self._is_closed = True

    @property
    def _progress_due(self) -> float:
        return self._progress_at + PROGRESS_SECONDS

    @property
    def _log_due(self) -> float:
        return self._log_at + LOG_SECONDS

    def _seconds_left(self, now: float) -> float | None:
        due = [self._progress_due] if self._latest is not None else []
        due += [self._log_due] if self._lines else []
        return max(0.0, min(due) - now) if due else None

    def _write_progress(self, now: float) -> None:
        newest, self._latest, self._progress_at = self._latest, None, now
        assert newest is not None  # noqa: S101 - the caller looked
        detail = _detail_json(newest)
        self._connection.run(
            lambda cursor: store.save_progress(
                cursor,
                self._claim.id,
                epoch=self._claim.epoch,
                percent=newest.percent,
                message=storable(newest.message),
                detail=detail,
            )
        )

    def _write_lines(self, now: float) -> None:
        self._log_at = now
        task_id, epoch = self._claim.id, self._claim.epoch
        while (chunk := self._lines.next_chunk()) is not None:
            number, size, text, before = (
                chunk.number,
                chunk.size_bytes,
                chunk.lines,
                chunk.drop_before,
            )

            def write(
                cursor: Any, number: int = number, size: int = size, text: str = text
            ) -> None:
                store.append_log(
                    cursor, task_id, epoch=epoch, number=number, size_bytes=size, lines=text
                )

            self._connection.run(write)
            if before:
                self._drop_before(before)

    def _drop_before(self, number: int) -> None:
        self._connection.run(
            lambda cursor: store.drop_log_chunks(
                cursor, self._claim.id, epoch=self._claim.epoch, before_number=number
            )
        )


def _detail_json(progress: Progress) -> str | None:
    if not progress.detail:
        return None
    try:
        text = orjson.dumps(dict(progress.detail), default=repr).decode()
    except (TypeError, ValueError, RecursionError):
        return None
    return None if "\\u0000" in text else text


class Flushable(Protocol):
    """What writes late: an attempt's reports, a bundle's successes."""

    def flush(self) -> float | None:
        """Write what is due; gives the seconds until more is, None where nothing waits."""


class Flusher(threading.Thread):
    """Writes for whatever rings, until nothing of it waits; asleep while nobody does."""

    def __init__(self) -> None:
        super().__init__(name="taskmill-flusher", daemon=True)
        self.bell: queue.SimpleQueue[Flushable] = queue.SimpleQueue()

    def run(self) -> None:
        """Flush for ever."""
        waiting: dict[int, Flushable] = {}
        pause: float | None = None
        while True:
            with contextlib.suppress(queue.Empty):
                rung = self.bell.get(timeout=pause)
                waiting[id(rung)] = rung
            pauses = {key: one.flush() for key, one in waiting.items()}
            waiting = {key: one for key, one in waiting.items() if pauses[key] is not None}
            pause = min((one for one in pauses.values() if one is not None), default=None)


class LogCapture(logging.Handler):
    """Copies what user code logs through the standard library into the attempt that runs."""

    OWN: Final = ("tasks_app.execution", "celery", "kombu", "psycopg", "asyncio")

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.sink: Sink | None = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record without the lock: an interrupt could come while it is held."""
        if self.filter(record):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; lines of the platform itself are not the task's."""
        sink = self.sink
        if sink is None or record.name.startswith(self.OWN):
            return
        level = {"CRITICAL": "error"}.get(record.levelname, record.levelname.lower())
        fields: dict[str, Any] = {"logger": record.name}
        if isinstance(record.msg, dict):
            fields |= {
                k: v for k, v in record.msg.items() if k not in {"event", "level", "timestamp"}
            }
            message = str(record.msg.get("event", ""))
        else:
            message = record.getMessage()
        sink.log(LogLine(level=level, message=message, fields=fields))
