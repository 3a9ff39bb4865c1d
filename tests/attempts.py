"""One attempt claimed or ended by hand, as a worker does it for the tasks of a message."""

from __future__ import annotations

import uuid

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.hints import Hint
from tasks_app.transitions import Claim


def claim_all(cursor: Cursor, hints: list[Hint], owner: str, lease_seconds: float) -> list[Claim]:
    """Claim what hints name, for a worker called `<owner>:1`."""
    return transitions.claim(
        cursor, hints, owner=owner, worker=f"{owner}:1", lease_seconds=lease_seconds
    )


def claim_one(
    cursor: Cursor, hint: Hint, *, owner: str = "tests", lease_seconds: float = 600.0
) -> Claim | None:
    """Claim what a hint names."""
    claims = claim_all(cursor, [hint], owner, lease_seconds)
    return claims[0] if claims else None


def succeed_one(
    cursor: Cursor, task_id: uuid.UUID, *, epoch: int, result: str = '{"ok": true}'
) -> bool:
    """End an attempt well; says whether it was still its worker's."""
    success = transitions.Success(id=task_id, epoch=epoch, result=result)
    return transitions.succeed(cursor, [success]) == {task_id}


def interrupt_one(cursor: Cursor, task_id: uuid.UUID, *, epoch: int) -> str | None:
    """Hand an attempt back as a stopping worker does; gives the new state."""
    return transitions.interrupt(cursor, [(task_id, epoch)], reason="worker_shutdown").get(task_id)
