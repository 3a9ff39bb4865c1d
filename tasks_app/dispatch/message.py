"""A hint as Celery reads it: protocol 2, json, built by hand once. Pure.

The body is `[[dispatch_seq], {}, {callbacks...}]`; the Celery id is the task id, the Celery task
is the task type. Source: Celery's message protocol, version 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.db import process_name
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


def hint_message(task: DispatchedTask) -> HintMessage:
    """Build the message that makes a Celery worker try to claim `task`."""
    task_id = str(task.id)
    return HintMessage(
        body=f"[[{task.dispatch_seq}], {{}}, {_EMBED}]",
        headers={
            "lang": "py",
            "task": task.type,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": f"({task.dispatch_seq},)",
            "kwargsrepr": "{}",
            "origin": process_name(),
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        properties={"correlation_id": task_id, "reply_to": ""},
    )
