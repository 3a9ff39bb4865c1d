"""Events as values, and the reader of server-sent events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from taskmill_client.wire import JsonObject

FINAL_EVENTS: Final = frozenset(
    {"task.succeeded", "task.failed", "task.error", "task.cancelled", "task.timeout"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact about a task (or a queue, a worker, a schedule).

    Attributes:
        id: never that of another event.
        type: such as `task.progress`.
        subject: the task's id, or what else it is about.
        time: when it happened.
        sequence: its place in the history of its task, dense from 1: give it as `after`.
        data: what changed.
        raw: the CloudEvents envelope as it came.
    """

    id: str
    type: str
    subject: str
    time: datetime
    sequence: int
    data: JsonObject = field(default_factory=dict)
    raw: JsonObject = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_final(self) -> bool:
        """Whether the task ended with it."""
        return self.type in FINAL_EVENTS


def event_of(raw: JsonObject) -> Event:
    """Give the event of an envelope.

    In a stream `sequence` is the place among the events of all tasks; the place within the task,
    which the history counts by, ends the `id` wherever it comes from.
    """
    place = str(raw["id"]).removesuffix(".snapshot").rpartition(".")[2]
    return Event(
        id=raw["id"],
        type=raw["type"],
        subject=raw.get("subject") or "",
        time=datetime.fromisoformat(raw["time"]),
        sequence=int(place) if place.isdigit() else int(raw.get("sequence") or 0),
        data=raw.get("data") or {},
        raw=raw,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEvent:
    """One message of a stream; `id` is the last one sent so far."""

    id: str
    type: str
    data: str


class EventReader:
    """Makes messages of the bytes of a stream, wherever these are cut."""

    def __init__(self) -> None:
        self._rest = b""
        self._id = ""
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[SentEvent]:
        """Take bytes, and give the messages that are complete with them."""
        found: list[SentEvent] = []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = self._take(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if message is not None:
                found.append(message)
        return found

    def _take(self, line: str) -> SentEvent | None:
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and "\x00" not in value:
            self._id = value
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        return None

    def _complete(self) -> SentEvent | None:
        kind, data = self._type or "message", self._data
        self._type, self._data = "", []
        return SentEvent(id=self._id, type=kind, data="\n".join(data)) if data else None


def times(raw: JsonObject, name: str) -> datetime | None:
    """Give the time of a member; None where it has none."""
    text: Any = raw.get(name)
    return datetime.fromisoformat(text) if text else None
