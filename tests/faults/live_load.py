"""A steady load on one queue, and what became of it by the ledger and by the history."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from tests.faults.ledger import Run, read_runs
from tests.faults.platform import Platform

QUEUE = "live"
SECONDS = 0.1
OWN_LIMITS = {"one": 3, "two": 1}
"""Slots of a key that its submissions name."""

BACKLOG = 45
"""Tasks of each kind that always wait."""

_WAITING = """SELECT coalesce(concurrency_key, ''), count(*) FROM taskmill_task
    WHERE queue = %s AND state IN ('queued', 'blocked') GROUP BY 1"""
_NOT_HANDED_OUT = """SELECT id::text FROM taskmill_task
    WHERE queue = %s AND state IN ('queued', 'blocked')"""
_HANDED_OUT = """SELECT e.task_id::text, extract(epoch FROM e.at)::float8
    FROM taskmill_event e JOIN taskmill_task t ON t.id = e.task_id
    WHERE t.queue = %s AND e.type = 'task.dispatched' AND e.at > to_timestamp(%s)
      AND (%s::text IS NULL OR t.concurrency_key = %s) ORDER BY e.at"""
_MARK = """WITH leader AS MATERIALIZED (
        SELECT 1 FROM taskmill_leader WHERE loop = 'dispatch' FOR UPDATE)
    SELECT extract(epoch FROM clock_timestamp())::float8 FROM leader"""


@dataclass(frozen=True)
class Seen:
    """What was handed out after a mark.

    Attributes:
        times: of the database, of each time that a task was handed out.
        starts: of those tasks, in order.
        runs: all of the same key (or of all keys), whenever they were handed out.
    """

    times: list[float]
    starts: list[Run]
    runs: list[Run]


class Load(threading.Thread):
    """Keeps a backlog of each kind until it is stopped."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(daemon=True)
        self.platform = platform
        self.kinds: tuple[str, ...] = tuple(OWN_LIMITS)
        self.keys: dict[str, str] = {}
        self.fault: BaseException | None = None
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.05):
            try:
                self._fill()
            except BaseException as error:  # noqa: BLE001 - told to the test at the end
                self.fault = error
                return

    def _fill(self) -> None:
        waiting = dict(self.platform.query(_WAITING, QUEUE))
        for kind in self.kinds:
            if (missing := BACKLOG - waiting.get(kind, 0)) > 0:
                self.submit(missing, kind=kind)

    def submit(self, count: int, *, kind: str = "", **options: Any) -> list[str]:
        """Submit tasks of a kind to the queue."""
        if kind:
            options |= {"concurrency_key": kind, "max_concurrency": OWN_LIMITS[kind]}
        found = self.platform.submit_many(count, seconds=SECONDS, **{"queue": QUEUE} | options)
        self.keys |= dict.fromkeys(found, kind)
        return found

    def stop(self) -> None:
        """Stop submitting; a fault of the thread is raised here."""
        self._end.set()
        self.join(60)
        if self.fault is not None:
            raise self.fault

    def waiting(self) -> set[str]:
        """Give the tasks that wait and are not handed out."""
        return {task for (task,) in self.platform.query(_NOT_HANDED_OUT, QUEUE)}

    def mark(self) -> float:
        """Give an instant of the database: dispatches that begin later see what is committed now.

        Each dispatch locks the leader's row before it reads anything; none is under way here.
        """
        [(at,)] = self.platform.query(_MARK)
        return float(at)

    def seen(self, since: float, *, kind: str | None = None) -> Seen:
        """Give what was handed out since a mark, of one key or of all."""
        rows = self.platform.query(_HANDED_OUT, QUEUE, since, kind, kind)
        ids = {task for task, _ in rows}
        runs = [
            run
            for run in read_runs(self.platform.ledger)
            if run.task in self.keys and kind in (None, self.keys[run.task])
        ]
        starts = [run for run in runs if run.task in ids]
        return Seen(times=[at for _, at in rows], starts=starts, runs=runs)
