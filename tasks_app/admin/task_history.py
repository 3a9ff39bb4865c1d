"""What happened to a task, as the admin's page shows it: the newest rows of each kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from tasks_app.admin.rendering import seconds_between, state_badge
from tasks_app.models import Attempt, Event, LogChunk, Task

MAX_ROWS: Final = 200
MAX_LOG_CHUNKS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryTable:
    """A table of the page, oldest row first.

    Attributes:
        rows: cells as text; the template escapes them.
        is_cut: whether older rows were left out.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool


def history_of(task: Task) -> list[HistoryTable]:
    """Give events, attempts and log lines, at most `MAX_ROWS` each; three statements."""
    return [_events(task), _attempts(task), _logs(task)]


def _events(task: Task) -> HistoryTable:
    found = list(Event.objects.filter(task=task).order_by("-seq")[: MAX_ROWS + 1])
    rows = [
        (event.seq, event.at, event.type, state_badge(event.state), event.actor, _short(event.data))
        for event in found[MAX_ROWS - 1 :: -1]
    ]
    columns = ("Number", "At", "Event", "State", "By", "Details")
    return _table("Events", columns, rows, len(found))


def _attempts(task: Task) -> HistoryTable:
    found = list(Attempt.objects.filter(task=task).order_by("-epoch")[: MAX_ROWS + 1])
    rows = [
        (
            one.attempt,
            one.outcome,
            one.worker,
            one.started_at,
            seconds_between(one.queued_at, one.started_at),
            seconds_between(one.started_at, one.finished_at),
            one.traceback or _short(one.error),
        )
        for one in found[MAX_ROWS - 1 :: -1]
    ]
    columns = ("Attempt", "Outcome", "Worker", "Started", "Waited", "Ran", "Error")
    return _table("Attempts", columns, rows, len(found))


def _logs(task: Task) -> HistoryTable:
    chunks = LogChunk.objects.filter(task=task).order_by("-epoch", "-number")[:MAX_LOG_CHUNKS]
    lines: list[dict[str, Any]] = [line for chunk in reversed(list(chunks)) for line in chunk.lines]
    rows = [
        (line.get("at"), line.get("level"), line.get("message"), _short(line.get("fields") or None))
        for line in lines[-MAX_ROWS:]
    ]
    columns = ("At", "Level", "Message", "Fields")
    return _table("Log", columns, rows, len(lines))


def _table(
    title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]], found: int
) -> HistoryTable:
    return HistoryTable(title=title, columns=columns, rows=rows, is_cut=found > MAX_ROWS)


def _short(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)[:2000]
