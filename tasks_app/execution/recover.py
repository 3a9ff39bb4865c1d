"""What the worker's main process writes about attempts whose facts it must first read.

Hard timeouts, revokes.
"""

from __future__ import annotations

import uuid
from typing import Final

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.execution.deciding import decide
from tasks_app.execution.outcomes import error_json
from tasks_app.policies import ErrorInfo

_FACTS: Final = """
SELECT type, retry_policy, attempt, attempt_base, max_retry FROM taskmill_task
WHERE id = %(id)s::uuid AND epoch = %(epoch)s AND state IN ('running', 'cancelling')
"""
_TENANT: Final = "SELECT tenant_id FROM taskmill_task WHERE id = %(id)s::uuid"


def end_timed_out(cursor: Cursor, task_id: uuid.UUID, *, epoch: int) -> bool:
    """Write that an attempt was killed at its process timeout.

    False where the epoch is not current.
    """
    cursor.execute(_FACTS, {"id": task_id, "epoch": epoch})
    row = cursor.fetchone()
    if row is None:
        return False
    task_type, override, attempt, base, max_retry = row
    error = ErrorInfo(
        code="TIMEOUT",
        type="ProcessTimeout",
        message="ran longer than its process_timeout and did not stop in time; it was killed",
        is_process_timeout=True,
    )
    verdict = decide(
        task_type,
        override,
        error,
        failed_attempts=attempt - base,
        attempts_left=max_retry + 1 - (attempt - base),
        is_hurried=True,
    )
    shown = error_json(error, attempt=attempt, is_retryable=verdict.is_retryable)
    if not verdict.is_retry:
        return transitions.fail(cursor, task_id, epoch=epoch, state="timeout", error=shown)
    state = transitions.retry(
        cursor,
        task_id,
        epoch=epoch,
        delay_seconds=verdict.delay_seconds,
        error=shown,
        is_timeout=True,
    )
    return state is not None


def cancel_revoked(cursor: Cursor, task_id: uuid.UUID) -> str | None:
    """Ask for the cancellation of a task that a Celery client revoked.

    Gives its new state or None.
    """
    cursor.execute(_TENANT, {"id": task_id})
    row = cursor.fetchone()
    if row is None:
        return None
    return transitions.request_cancel(
        cursor,
        tenant_id=row[0],
        task_id=task_id,
        actor="celery:revoke",
        reason="revoked by a Celery client",
        grace_seconds=None,
    )
