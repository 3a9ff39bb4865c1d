"""Tasks of Django's task framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django_tasks import TaskContext, task

from tasks_app.public import current_task


class OutOfStock(Exception):
    pass


@task
def add(left: int, right: int = 0) -> int:
    return left + right


@task
async def add_later(left: int, right: int) -> tuple[int, int]:
    return (left, right)


@task(priority=7, queue_name="default")
def fail(number: int) -> None:
    raise OutOfStock(f"no {number} left")


@task(takes_context=True)
def told(context: TaskContext, word: str) -> dict[str, Any]:
    platform = current_task()
    assert platform is not None
    platform.progress(50, word)
    return {"attempt": context.attempt, "id": context.task_result.id, "word": word}


@task
def hold(path: str) -> None:
    Path(path).touch()
    while Path(path).exists():
        current = current_task()
        assert current is not None
        current.sleep(0.02)


@task
def unstorable() -> object:
    return object()


def undecorated() -> None: ...
