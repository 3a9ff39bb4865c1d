"""A hint as Celery reads it: protocol 2, json, built by hand once. Pure.

The body is `tasks_app.hints`'; the Celery id is the task id, the Celery task is the task type.
Source: Celery's message protocol, version 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks_app.dispatch.bundles import Bundle
from tasks_app.hints import TOGETHER, write_hints

CONTENT_TYPE = "application/json"
CONTENT_ENCODING = "utf-8"


@dataclass(frozen=True, slots=True)
class HintMessage:
    """The parts of a message: `body` is JSON text, `headers` and `properties` are JSON values."""

    body: str
    headers: dict[str, Any]
    properties: dict[str, Any]


def hint_message(bundle: Bundle, *, origin: str) -> HintMessage:
    """Build the message that makes a Celery worker try to claim the tasks of a bundle.

    Headers that Celery takes for absent when they are null are left out: each costs time in every
    message.

    Args:
        bundle: of at least one task.
        origin: who publishes, for people.
    """
    task = bundle.tasks[0]
    task_id = str(task.id)
    together = {TOGETHER: bundle.most} if bundle.most > len(bundle.tasks) else {}
    return HintMessage(
        body=write_hints([(one.id, one.dispatch_seq) for one in bundle.tasks]).decode(),
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
            **together,
        },
        properties={"correlation_id": task_id, "reply_to": ""},
    )
