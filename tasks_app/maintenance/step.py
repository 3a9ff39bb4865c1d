"""What a step of the maintain loop is: guarded statements with a limit on their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tasks_app.db import Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTurn:
    """What a step may ask besides the database.

    Attributes:
        now: monotonic seconds.
        healthy_seconds: how long the database has answered continuously.
    """

    now: float
    healthy_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a step did.

    Attributes:
        count: rows changed.
        is_full: it hit its limit: there is probably more.
        next_seconds: come back sooner than the step's interval, or None.
    """

    count: int
    is_full: bool = False
    next_seconds: float | None = None


class Step(Protocol):
    """One duty of the maintain loop. Steps are safe to run in several processes at once."""

    name: str
    interval_seconds: float

    def run_once(self, cursor: Cursor, turn: StepTurn, /) -> StepResult:
        """Do the duty once, with a bounded number of rows, in its own transaction."""
