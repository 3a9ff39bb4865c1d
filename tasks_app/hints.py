"""What a message to a worker says: hints, by which it may claim tasks. Pure.

The body is Celery's protocol 2, `[arguments, {}, {callbacks...}]`; the Celery id is the id of the
first task, and the arguments are `[dispatch_seq]`, or `[dispatch_seq, [[id, dispatch_seq], ...]]`
with the hints after the first. Written by the dispatcher, read by workers.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

import orjson

Hint = tuple[uuid.UUID, int]
"""A task's id and the number of its dispatch; an older number than the row's claims nothing."""

TOGETHER: Final = "together"
"""The header of a message that says how many tasks of its type a worker may take together."""

_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def write_hints(hints: Sequence[Hint]) -> bytes:
    """Give the body of a message, as JSON."""
    arguments: list[Any] = [hints[0][1]] if hints else []
    if len(hints) > 1:
        arguments.append([[str(task_id), number] for task_id, number in hints[1:]])
    return orjson.dumps([arguments, {}, _EMBED])


def read_hints(task_id: Any, arguments: Any) -> list[Hint]:
    """Read the hints of a message; empty where it is none.

    Args:
        task_id: the Celery id.
        arguments: the positional arguments.
    """
    try:
        first, rest = arguments[0], arguments[1] if len(arguments) > 1 else []
        return [_hint(task_id, first), *(_hint(*one) for one in rest)]
    except (TypeError, ValueError, AttributeError, IndexError, KeyError):
        return []


def read_body(task_id: Any, body: bytes | str) -> list[Hint]:
    """Read the hints of a body as it came from the broker; empty where it is none."""
    try:
        return read_hints(task_id, orjson.loads(body)[0])
    except (TypeError, ValueError, IndexError, KeyError):
        return []


def _hint(task_id: Any, dispatch_seq: Any) -> Hint:
    if not isinstance(dispatch_seq, int):
        raise TypeError(dispatch_seq)
    return uuid.UUID(task_id), dispatch_seq
