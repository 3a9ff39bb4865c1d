"""A hint as Celery reads it: protocol 2, json, built by hand once. Pure.

The body is `[[dispatch_seq], {}, {callbacks...}]`; the Celery id is the task id, the Celery task
is the task type. A bundle has a second argument with the hints after the first: `[[id, seq], ...]`.
Source: Celery's message protocol, version 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tasks_app.transitions import DispatchedTask

CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"
_EMBED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


@dataclass(frozen=True, slots=True)
class HintMessage:
    """The parts of a message: `body` is JSON text, `headers` and `properties` are JSON values."""

    body: str
    headers: dict[str, Any]
    properties: dict[str, Any]


def hint_message(tasks: Sequence[DispatchedTask], *, origin: str) -> HintMessage:
    """Build the message that makes a Celery worker try to claim `tasks`, one after the other.

    Headers that Celery takes for absent when they are null are left out: each costs time in every
    message.

    Args:
        tasks: at least one, all of one queue and type.
        origin: who publishes, for people.
    """
    task = tasks[0]
    task_id = str(task.id)
    arguments: list[Any] = [task.dispatch_seq]
    if len(tasks) > 1:
        arguments.append([[str(one.id), one.dispatch_seq] for one in tasks[1:]])
    return HintMessage(
        body=f"[{orjson.dumps(arguments).decode()}, {{}}, {_EMBED}]",
        headers={
            "lang": "py",
            "task": task.type,
            "id": task_id,
            "root_id": task_id,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": f"({task.dispatch_seq},)",
            "kwargsrepr": "{}",
            "origin": origin,
            "ignore_result": True,
        },
        properties={"correlation_id": task_id, "reply_to": ""},
    )
