"""Drives tasks through the protocol without an engine: the test itself dispatches and publishes."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.db import connection

from tasks_app import transitions
from tasks_app.models import Task
from tasks_app.transitions import NewTask
from tests.factories import make_tenant
from tests.processes import publish_hints, wait_for

FINISHED = ("success", "failed", "error", "cancelled", "timeout")


def submit(task_type: str, payload: Any = None, **options: Any) -> uuid.UUID:
    """Insert a task of the tenant `default` and publish its hint."""
    task = NewTask(
        tenant_id=make_tenant("default").pk,
        type=task_type,
        queue=options.pop("queue", "default"),
        payload={} if payload is None else payload,
        max_retry=options.pop("max_retry", 3),
        process_timeout=options.pop("process_timeout", 60),
        **options,
    )
    with connection.cursor() as cursor:
        transitions.insert_tasks(cursor, [task])
    feed(task.queue)
    return task.id


def feed(queue: str = "default", *, room: int = 1000) -> int:
    """Promote what is due, dispatch what is ready, publish the hints."""
    with connection.cursor() as cursor:
        transitions.promote(cursor)
        tasks, _ = transitions.dispatch(cursor, queue=queue, room=room)
    if tasks:
        publish_hints([(task.id, task.dispatch_seq, task.type, task.queue) for task in tasks])
    return len(tasks)


def task(task_id: uuid.UUID) -> Task:
    """Read a row."""
    return Task.objects.get(id=task_id)


def wait_state(task_id: uuid.UUID, *states: str, seconds: float = 20.0) -> Task:
    """Feed and poll until a task is in one of the states (any final one by default)."""
    wanted = states or FINISHED

    def look() -> Task | None:
        feed()
        row = task(task_id)
        return row if row.state in wanted else None

    try:
        found = wait_for(look, seconds=seconds)
    except AssertionError:
        row = task(task_id)
        raise AssertionError(f"{row.type} is {row.state}, not {wanted}: {row.error}") from None
    assert found is not None
    return found


def events_of(task_id: uuid.UUID) -> list[tuple[str, Any]]:
    """The events of a task as `(type, data)` in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT type, data FROM taskmill_event WHERE task_id = %s ORDER BY seq", [task_id]
        )
        return [(name, data and json.loads(data)) for name, data in cursor.fetchall()]
