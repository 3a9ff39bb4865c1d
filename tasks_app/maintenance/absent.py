"""Lost workers: those that give no sign of life any more are told of, once each."""

from __future__ import annotations

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn

LIMIT = 500


class NoteLostWorkers:
    """Tells of workers that have not reported for a lease; what they ran is rescued elsewhere.

    It waits until the database has answered for a lease: after an outage every worker looks lost.
    """

    name = "lost_workers"
    interval_seconds = 1.0

    def __init__(self, *, lease_seconds: float) -> None:
        self._lease_seconds = lease_seconds

    def run_once(self, cursor: Cursor, turn: StepTurn) -> StepResult:
        """Note at most five hundred workers."""
        if turn.healthy_seconds < self._lease_seconds:
            return StepResult(count=0)
        count = transitions.note_lost_workers(
            cursor, lease_seconds=self._lease_seconds, limit=LIMIT
        )
        return StepResult(count=count, is_full=count >= LIMIT)
