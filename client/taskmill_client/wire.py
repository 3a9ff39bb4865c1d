"""What is asked of the server and what it answers, as values; nothing is sent here.

A *flow* is a generator that yields steps (`Send`, `Pause`, `Open`, `Read`, `Emit`) and is given
what came of them. It holds all that a client knows of the API; `sync_side` and `async_side` carry
the steps out, and are the only modules that do.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

T = TypeVar("T")
JsonObject: TypeAlias = dict[str, Any]
JsonObjects: TypeAlias = list[JsonObject]
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request.

    Attributes:
        path: below `/api/v1`, percent-encoded, with a slash in front.
        query: parameters without None; lists are repeated.
        body: a JSON value; None for no body.
        is_repeatable: whether sending it twice does what sending it once does.
        patience_seconds: how much longer than usual the answer may take: what it is asked to wait.
        silence_seconds: of a stream, the longest time without a byte.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_repeatable: bool = False
    patience_seconds: float = 0.0
    silence_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Lost(Exception):
    """There is no (whole) answer; thrown into a flow.

    Attributes:
        was_sent: whether the server may have got the request.
        is_silence: nothing came for too long, while the connection was still there.
        reason: in words.
    """

    def __init__(self, reason: str, *, was_sent: bool, is_silence: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.was_sent = was_sent
        self.is_silence = is_silence


@dataclass(frozen=True, slots=True)
class Send:
    """Send a call; gives its `Answer`, or throws `Lost`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Open:
    """Send a call whose answer is a stream; gives its `Answer`, without a body where it is 200.

    A stream that is open is closed before, and so is one at the end of the flow.
    """

    call: Call


@dataclass(frozen=True, slots=True)
class Read:
    """Read bytes of the open stream; gives none at its end, or throws `Lost`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand one value to who iterates."""

    value: Any


@dataclass(frozen=True, slots=True)
class Done:
    """The flow has ended."""

    value: Any


Step: TypeAlias = Send | Open | Read | Pause | Emit
Flow: TypeAlias = Generator[Step, Any, T]


def following(flow: Flow[Any], found: Any = None, *, lost: Lost | None = None) -> Step | Done:
    """Give what comes after a step, told what came of it; without that, the first step."""
    try:
        return flow.send(found) if lost is None else flow.throw(lost)
    except StopIteration as end:
        return Done(end.value)


def encode(value: Any) -> bytes:
    """Give the JSON of a body; integers of any size and floats keep their value.

    Raises:
        TypeError: it holds what JSON has not.
        ValueError: it holds NaN or an infinity.
    """
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json
    )
    return text.encode("utf-8", "surrogatepass")


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise TypeError(f"{value!r} has no time zone; Taskmill could not tell when that is")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")
