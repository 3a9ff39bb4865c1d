"""Expire: the last enforcer of queue timeouts, process timeouts and cancels."""

from __future__ import annotations

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn
from tasks_app.telemetry import logger

log = logger(__name__)

PENDING_LIMIT = 1000
RUNNING_LIMIT = 500
CANCEL_LIMIT = 100


class ExpirePending:
    """Ends tasks that waited longer than their queue timeout."""

    name = "expire_pending"
    interval_seconds = 0.5

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Expire at most a thousand tasks."""
        count = transitions.expire_pending(cursor)
        return StepResult(count=count, is_full=count >= PENDING_LIMIT)


class ExpireRunning:
    """Takes attempts away that their worker did not stop at the deadline.

    Args:
        grace_seconds: beyond the deadline; the worker's own enforcers come first.
    """

    name = "expire_running"
    interval_seconds = 1.0

    def __init__(self, *, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Expire at most five hundred attempts."""
        count = transitions.expire_running(cursor, grace_seconds=self._grace_seconds)
        if count:
            log.warning("workers did not stop attempts at their deadline", attempts=count)
        return StepResult(count=count, is_full=count >= RUNNING_LIMIT)


_UNCONFIRMED = """
SELECT id, epoch, worker FROM taskmill_task
WHERE state = 'cancelling' AND lease_expires_at > taskmill_now()
  AND cancel_requested_at < taskmill_now() - make_interval(secs =>
      3 * coalesce(cancel_grace_seconds, %(grace)s::float8) + %(lease)s::float8)
ORDER BY cancel_requested_at LIMIT %(limit)s
"""


class ForceCancel:
    """Ends cancels that a living worker never confirms, and says so in the receipt.

    Args:
        grace_seconds: the kill grace of tasks that name none; three of it and a lease are waited
        for. lease_seconds: of the workers.
    """

    name = "force_cancel"
    interval_seconds = 1.0

    def __init__(self, *, grace_seconds: float, lease_seconds: float) -> None:
        self._values = {"grace": grace_seconds, "lease": lease_seconds, "limit": CANCEL_LIMIT}

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Force at most a hundred cancels; their workers deserve a look."""
        cursor.execute(_UNCONFIRMED, self._values)
        found = cursor.fetchall()
        count = 0
        for task_id, epoch, worker in found:
            if transitions.confirm_cancel(cursor, task_id, epoch=epoch, how="kill_unconfirmed"):
                count += 1
                log.error("a worker never confirmed a cancel", task_id=str(task_id), worker=worker)
        return StepResult(count=count, is_full=len(found) >= CANCEL_LIMIT)
