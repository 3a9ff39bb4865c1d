"""Watch queues: says once when tasks wait in a queue that no worker serves, and once when not."""

from __future__ import annotations

from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn
from tasks_app.selectors.serving import unserved_queues
from tasks_app.telemetry import logger

log = logger(__name__)


class WatchQueues:
    """Compares the unserved queues with those of the look before; a new leader says them anew."""

    name = "watch_queues"
    interval_seconds = 0.5

    def __init__(self) -> None:
        self._known: set[str] = set()

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Look once; changes nothing."""
        found = set(unserved_queues(cursor))
        for queue in sorted(found - self._known):
            log.warning("tasks wait and no worker serves their queue", queue=queue)
        for queue in sorted(self._known - found):
            log.info("no task waits any more for a worker of the queue", queue=queue)
        self._known = found
        return StepResult(count=0)
