"""The log lines of one attempt on their way to the store: chunked, capped, the oldest dropped.

Pure bookkeeping; `tasks_app.execution.sink` carries the chunks away.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from tasks_app.context import LogLine
from tasks_app.execution.outcomes import storable
from tasks_app.jsontext import printed_bytes

MAX_LINE_CHARACTERS: Final = 65_536
_CHUNK_SHARE: Final = 4
_LARGEST_CHUNK: Final = 262_144


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines to store as one row; rows numbered below `drop_before` are to be dropped."""

    number: int
    size_bytes: int
    lines: str
    drop_before: int


class LogBuffer:
    """Takes lines from any thread, gives chunks to one.

    Args:
        started_at: when the attempt started, by the database.
        started_monotonic: the same on this machine's monotonic clock.
        max_bytes: kept per attempt.
    """

    def __init__(self, started_at: datetime, started_monotonic: float, *, max_bytes: int) -> None:
        self._started_at = started_at
        self._started_monotonic = started_monotonic
        self._max_bytes = max_bytes
        self._chunk_bytes = min(max(max_bytes // _CHUNK_SHARE, 256), _LARGEST_CHUNK)
        self._lines: deque[tuple[float, LogLine]] = deque()
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        self._stored: deque[tuple[int, int]] = deque()
        self._stored_bytes = 0
        self._next_number = 1
        self._dropped_bytes = 0

    def add(self, at: float, line: LogLine) -> None:
        """Take a line written at a monotonic instant."""
        self._lines.append((at, line))

    def __bool__(self) -> bool:
        return bool(self._lines or self._waiting)

    def next_chunk(self) -> Chunk | None:
        """Give the next lines to store, or None; the cap is kept by dropping what is oldest."""
        self._encode_waiting()
        if not self._waiting:
            return None
        rows: list[bytes] = []
        size = 0
        while self._waiting and (not rows or size + self._waiting[0][1] <= self._chunk_bytes):
            row, row_bytes = self._waiting.popleft()
            rows.append(row)
            size += row_bytes
        self._waiting_bytes -= size
        drop_before = self._make_room(size)
        if self._dropped_bytes:
            rows.insert(0, self._marker())
        number, self._next_number = self._next_number, self._next_number + 1
        self._stored.append((number, size))
        self._stored_bytes += size
        return Chunk(number, size, f"[{b','.join(rows).decode()}]", drop_before)

    def _encode_waiting(self) -> None:
        while self._lines:
            row = self._encode(*self._lines.popleft())
            size = printed_bytes(row)
            self._waiting.append((row, size))
            self._waiting_bytes += size
        while self._waiting_bytes > self._max_bytes:
            _, size = self._waiting.popleft()
            self._waiting_bytes -= size
            self._dropped_bytes += size

    def _make_room(self, size: int) -> int:
        drop_before = 0
        while self._stored and self._stored_bytes + size > self._max_bytes:
            number, old = self._stored.popleft()
            self._stored_bytes -= old
            self._dropped_bytes += old
            drop_before = number + 1
        return drop_before

    def _marker(self) -> bytes:
        line = LogLine(
            level="warning",
            message=f"{self._dropped_bytes} bytes of older log lines were dropped",
            fields={"dropped_bytes": self._dropped_bytes},
        )
        return self._encode(self._started_monotonic, line)

    def _encode(self, at: float, line: LogLine) -> bytes:
        instant = self._started_at + timedelta(seconds=at - self._started_monotonic)
        row: dict[str, Any] = {
            "at": instant,
            "level": line.level,
            "message": storable(line.message[:MAX_LINE_CHARACTERS]),
            "fields": dict(line.fields),
        }
        try:
            text = orjson.dumps(row, default=repr)
        except (TypeError, ValueError, RecursionError):
            text = orjson.dumps(
                row | {"fields": {"unstorable": storable(repr(line.fields)[:1000])}}
            )
        if b"\\u0000" in text:
            shown = storable(repr(line.fields)[:MAX_LINE_CHARACTERS])
            text = orjson.dumps(row | {"fields": {"shown": shown}})
        return text
