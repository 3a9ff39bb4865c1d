"""Use case cancel: end a pending task, or ask a running one to stop."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from django.db import connection

from tasks_app.errors import StateConflict
from tasks_app.selectors import find_state
from tasks_app.services.caller import Caller
from tasks_app.states import FINISHED, State
from tasks_app.transitions import request_cancel

_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswer:
    """What a cancel came to.

    Attributes:
        state: `cancelled` or `cancelling`.
        was_pending: whether the task has stopped already; False while its worker is being asked.
    """

    state: str
    was_pending: bool


def cancel_task(
    *,
    caller: Caller,
    task_id: uuid.UUID,
    reason: str = "",
    is_forced: bool = False,
    grace_seconds: float | None = None,
) -> CancelAnswer:
    """Cancel a task; repeating it changes nothing, except that a shorter grace is taken over.

    Args:
        reason: at most 500 characters, kept in the history.
        is_forced: kill at once: a grace of 0 seconds.
        grace_seconds: between the polite stop and the kill, None for the installation's.

    Raises:
        TaskNotFound: no such task of this tenant.
        StateConflict: it finished otherwise; `state` says how.
    """
    grace = 0.0 if is_forced else grace_seconds
    state = ""
    for _ in range(_TRIES):
        with connection.cursor() as cursor:
            changed = request_cancel(
                cursor,
                tenant_id=caller.tenant_id,
                task_id=task_id,
                actor=caller.actor,
                reason=reason[:500],
                grace_seconds=grace,
            )
        state = changed or find_state(tenant_id=caller.tenant_id, task_id=task_id)[0]
        if state in FINISHED or state == State.CANCELLING:
            break
    if state not in {State.CANCELLED, State.CANCELLING}:
        raise StateConflict(f"the task is {state}; it cannot be cancelled", state=state)
    return CancelAnswer(state=state, was_pending=state == State.CANCELLED)
