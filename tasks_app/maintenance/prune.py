"""Prune: finished tasks past their retention leave with their history. Live tasks never do."""

from __future__ import annotations

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn

LIMIT = 500
LOST_WORKER_SECONDS = 3600.0
OLD_METER_SECONDS = 3600.0
LIFTED_SECONDS = 3600.0


def _prune_old(table: str, key: str, at: str, *, guard: str = "true") -> str:
    """Give the statement that removes a limited number of rows older than an age.

    What somebody has locked stays for later: a DELETE that waited while it holds other rows could
    deadlock with a submission or the dispatcher.
    """
    return f"""
DELETE FROM {table} WHERE {key} = ANY(ARRAY(
    SELECT {key} FROM {table}
    WHERE {at} < taskmill_now() - make_interval(secs => %(age)s::float8) AND {guard}
    ORDER BY {at} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
"""  # noqa: S608 - built from constants


_PRUNE_IDEMPOTENCY = _prune_old("taskmill_idempotency", "id", "expires_at")
_PRUNE_UNIQUE_HOLDS = _prune_old("taskmill_unique_hold", "id", "expires_at")
_PRUNE_METERS = _prune_old("taskmill_submission_meter", "scope", "started_at")
_PRUNE_WORKERS = _prune_old("taskmill_worker", "id", "last_seen_at")
_PRUNE_PACED_RETRIES = _prune_old("taskmill_paced_retry", "id", "finished_at")
_PRUNE_LIFTED = _prune_old(
    "taskmill_limit",
    "id",
    "changed_at",
    guard="of = 'key' AND concurrency IS NULL AND rate IS NULL",
)

_PRUNE_PURGED = """
DELETE FROM taskmill_purged_task WHERE task_id = ANY(ARRAY(
    SELECT task_id FROM taskmill_purged_task
    WHERE purged_at < taskmill_now() - make_interval(secs => %(age)s::float8)
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
"""
"""In no order: its index by time is one of blocks."""

_PRUNE_STALE = """
DELETE FROM taskmill_stale_result WHERE id IN (
    SELECT id FROM taskmill_stale_result ORDER BY id LIMIT %(limit)s)
  AND at < taskmill_now() - make_interval(secs => %(age)s::float8)
"""

_PRUNE_PLATFORM = """
DELETE FROM taskmill_event WHERE id IN (
    SELECT id FROM taskmill_event
    WHERE task_id IS NULL AND at < taskmill_now() - make_interval(secs => %(age)s::float8)
    ORDER BY at LIMIT %(limit)s)
"""

_PRUNE_FEED = """
WITH first AS MATERIALIZED (
    SELECT first_sequence, at FROM taskmill_feed ORDER BY first_sequence LIMIT %(limit)s
)
DELETE FROM taskmill_feed f USING first
WHERE f.first_sequence = first.first_sequence
  AND first.at < taskmill_now() - make_interval(secs => %(age)s::float8)
  AND f.first_sequence < (SELECT max(first_sequence) FROM taskmill_feed)
"""


class PruneTasks:
    """Removes finished tasks of one retention class.

    Args:
        name: of the step, in counts and logs.
        dead: whether its class is that of dead letters, or that of the others.
        retention_days: after the finish.
    """

    interval_seconds = 60.0

    def __init__(self, name: str, *, dead: bool, retention_days: float) -> None:
        self.name = name
        self._dead = dead
        self._age_seconds = retention_days * 86_400

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Remove at most five hundred tasks with their events, attempts, logs and stored values."""
        count = transitions.prune(
            cursor, dead=self._dead, age_seconds=self._age_seconds, limit=LIMIT
        )
        return StepResult(count=count, is_full=count >= LIMIT)


class PruneRecords:
    """Removes what else has an end: idempotency records, keys held for a time, counts of minutes,
    rows of lost workers and of lifted limits, refused writes, paced retries, ids of purged tasks.

    Args:
        stale_days: how long refused writes, ended paced retries and ids of purged tasks are kept.
    """

    name = "prune_records"
    interval_seconds = 60.0

    def __init__(self, *, stale_days: float) -> None:
        self._stale_days = stale_days

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Remove at most five hundred records of each kind."""
        most = 0
        total = 0
        for statement, age_seconds in (
            (_PRUNE_IDEMPOTENCY, 0.0),
            (_PRUNE_UNIQUE_HOLDS, 0.0),
            (_PRUNE_PURGED, self._stale_days * 86_400),
            (_PRUNE_METERS, OLD_METER_SECONDS),
            (_PRUNE_WORKERS, LOST_WORKER_SECONDS),
            (_PRUNE_LIFTED, LIFTED_SECONDS),
            (_PRUNE_STALE, self._stale_days * 86_400),
            (_PRUNE_PACED_RETRIES, self._stale_days * 86_400),
        ):
            cursor.execute(statement, {"limit": LIMIT, "age": age_seconds})
            most = max(most, cursor.rowcount)
            total += cursor.rowcount
        return StepResult(count=total, is_full=most >= LIMIT)


class PruneFeed:
    """Removes the beginning of the feed, and so what a stream can resume from; never its end.

    Events of no task go with their place; those of tasks stay as long as the tasks.

    Args:
        retention_hours: how long a place in the feed is kept.
    """

    name = "prune_feed"
    interval_seconds = 60.0

    def __init__(self, *, retention_hours: float) -> None:
        self._values = {"age": retention_hours * 3600, "limit": LIMIT}

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Remove at most five hundred batches, and as many events of no task."""
        cursor.execute(_PRUNE_FEED, self._values)
        batches = cursor.rowcount
        cursor.execute(_PRUNE_PLATFORM, self._values)
        events = cursor.rowcount
        return StepResult(count=batches + events, is_full=max(batches, events) >= LIMIT)


def prune_steps(
    *, success_days: float, failed_days: float, feed_hours: float
) -> list[PruneTasks | PruneRecords | PruneFeed]:
    """Give the prune steps for the two retention classes, the other records and the feed."""
    return [
        PruneTasks("prune_done", dead=False, retention_days=success_days),
        PruneTasks("prune_dead_letters", dead=True, retention_days=failed_days),
        PruneRecords(stale_days=failed_days),
        PruneFeed(retention_hours=feed_hours),
    ]
