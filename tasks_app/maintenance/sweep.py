"""Sweep: tasks whose hint was lost on its way, or that no worker claimed, become ready again."""

from __future__ import annotations

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn

LIMIT = 1000


class Sweep:
    """Makes messages disposable.

    Args:
        publish_grace_seconds: for hints never confirmed.
        redispatch_seconds: for hints never claimed.
    """

    name = "sweep"
    interval_seconds = 1.0

    def __init__(self, *, publish_grace_seconds: float, redispatch_seconds: float) -> None:
        self._publish_grace_seconds = publish_grace_seconds
        self._redispatch_seconds = redispatch_seconds

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Sweep at most a thousand tasks."""
        count = transitions.sweep(
            cursor,
            publish_grace_seconds=self._publish_grace_seconds,
            redispatch_seconds=self._redispatch_seconds,
        )
        return StepResult(count=count, is_full=count >= LIMIT)
