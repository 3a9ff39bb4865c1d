"""Promote: tasks whose time has come, scheduled or retrying, become ready."""

from __future__ import annotations

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn

LIMIT = 1000

_NEXT_DUE = """
SELECT extract(epoch FROM run_at - taskmill_now())::float8 FROM taskmill_task
WHERE state IN ('scheduled', 'retrying') AND run_at > taskmill_now() - interval '20 ms'
ORDER BY run_at LIMIT 1
"""
"""What has been due for longer is in somebody's hands: it is tried at each interval, not at once,
or the loop would spin for as long as it is held."""


class Promote:
    """Runs at each interval, and exactly when the next known task is due before that.

    Args:
        interval_seconds: how late a task may be that came with a shorter delay than the next one
            known.
    """

    name = "promote"

    def __init__(self, *, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Promote at most a thousand tasks."""
        count = transitions.promote(cursor)
        cursor.execute(_NEXT_DUE)
        row = cursor.fetchone()
        return StepResult(
            count=count,
            is_full=count >= LIMIT,
            next_seconds=None if row is None else max(0.0, row[0]),
        )
