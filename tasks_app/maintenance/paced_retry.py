"""Paced retries: dead letters are queued again, so many a second, until all were looked at.

A retry is a row. Its place, its counts and the retries of a batch commit together, so that whatever
dies in between, none is counted twice and none is left out; the pace follows the database clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import psycopg

from tasks_app import transitions
from tasks_app.db import Cursor, rows_as_dicts
from tasks_app.maintenance.step import StepResult, StepTurn
from tasks_app.selectors.dead_letters import DeadLetterFilter
from tasks_app.telemetry import logger

log = logger(__name__)

BATCH: Final = 500
AT_A_TIME: Final = 20
INTERVAL_SECONDS: Final = 0.25
REST_SECONDS: Final = 60.0

_RUNNING: Final = """
SELECT id FROM taskmill_paced_retry
WHERE state = 'running'
  AND allowance + per_second * extract(epoch FROM taskmill_now() - paced_at)::float8 >= 1
ORDER BY paced_at LIMIT %(most)s
"""
_HOLD: Final = """
SELECT id, tenant_id, wanted, created_by, created_at, place_at, place_id,
    least(allowance + per_second * extract(epoch FROM taskmill_now() - paced_at)::float8,
        greatest(per_second, 1)) AS allowance
FROM taskmill_paced_retry WHERE id = %(id)s AND state = 'running' FOR UPDATE SKIP LOCKED
"""
"""An outage of the engine earns no more than a second of retries."""

_NEXT: Final = """
SELECT t.id, t.finished_at FROM taskmill_task t
WHERE {conditions} AND t.finished_at <= %(until)s
  AND (t.finished_at, t.id) > (coalesce(%(place_at)s::timestamptz, '-infinity'),
      coalesce(%(place_id)s::uuid, '00000000-0000-0000-0000-000000000000'))
ORDER BY t.finished_at, t.id LIMIT %(room)s
"""
_NOTE: Final = """
UPDATE taskmill_paced_retry SET retried = retried + %(retried)s, skipped = skipped + %(skipped)s,
    allowance = %(allowance)s, paced_at = taskmill_now(),
    place_at = coalesce(%(place_at)s, place_at), place_id = coalesce(%(place_id)s, place_id),
    state = CASE WHEN %(is_done)s THEN 'done' ELSE state END,
    finished_at = CASE WHEN %(is_done)s THEN taskmill_now() END
WHERE id = %(id)s
"""
_REST: Final = """
UPDATE taskmill_paced_retry
SET paced_at = taskmill_now() + make_interval(secs => %(seconds)s::float8)
WHERE id = %(id)s AND state = 'running'
"""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What a look at a paced retry found: ids in order, and the place of the last."""

    ids: list[uuid.UUID]
    place_at: datetime | None
    place_id: uuid.UUID | None


class PacedRetries:
    """Carries the paced retries of all tenants on: those that have earned a retry, `AT_A_TIME`,
    the one first that was carried on longest ago.
    """

    name = "paced_retries"
    interval_seconds = INTERVAL_SECONDS

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        """Retry what each has earned since the last time, in a transaction each.

        One that fails rests, for it would be the first of all again and again; the others go on,
        and then the first failure is raised.
        """
        cursor.execute(_RUNNING, {"most": AT_A_TIME})
        count, failures = 0, []
        for (retry_id,) in cursor.fetchall():
            try:
                count += _carry_on(cursor, retry_id)
            except Exception as failure:
                if _connection(cursor).closed:
                    raise
                failures.append(failure)
                log.warning("a paced retry failed, and rests", retry_id=str(retry_id))
                cursor.execute(_REST, {"id": retry_id, "seconds": REST_SECONDS})
        if failures:
            raise failures[0]
        return StepResult(count=count)


def _carry_on(cursor: Cursor, retry_id: uuid.UUID) -> int:
    with _transaction(cursor):
        cursor.execute(_HOLD, {"id": retry_id})
        rows = rows_as_dicts(cursor)
        if not rows or rows[0]["allowance"] < 1:
            return 0
        held, room = rows[0], min(int(rows[0]["allowance"]), BATCH)
        batch = _next(cursor, held, room)
        taken = _redrive(cursor, held, batch.ids)
        is_done = len(batch.ids) < room
        note: dict[str, Any] = {"id": retry_id, "retried": taken, "is_done": is_done}
        note |= {"skipped": len(batch.ids) - taken, "place_at": batch.place_at}
        note |= {"allowance": held["allowance"] - len(batch.ids), "place_id": batch.place_id}
        cursor.execute(_NOTE, note)
    if is_done:
        log.info("paced retry done", retry_id=str(retry_id))
    return taken


def _next(cursor: Cursor, held: dict[str, Any], room: int) -> _Batch:
    wanted = DeadLetterFilter(**held["wanted"])
    values = wanted.values(held["tenant_id"]) | {"until": held["created_at"], "room": room}
    values |= {"place_at": held["place_at"], "place_id": held["place_id"]}
    cursor.execute(_NEXT.format(conditions=wanted.conditions()), values)
    rows = cursor.fetchall()
    last_id, last_at = rows[-1] if rows else (None, None)
    return _Batch([row[0] for row in rows], last_at, last_id)


def _redrive(cursor: Cursor, held: dict[str, Any], ids: Sequence[uuid.UUID]) -> int:
    """Retry a batch; where a live task holds the unique key of one, each on its own."""
    if not ids:
        return 0
    try:
        with _transaction(cursor):
            taken = transitions.redrive(
                cursor, tenant_id=held["tenant_id"], task_ids=ids, actor=held["created_by"]
            )
    except psycopg.IntegrityError:
        return 0 if len(ids) == 1 else sum(_redrive(cursor, held, [one]) for one in ids)
    return len(taken)


def _transaction(cursor: Cursor) -> Any:
    """Begin a transaction, or a savepoint within one, on the engine's own connection."""
    return _connection(cursor).transaction()


def _connection(cursor: Cursor) -> psycopg.Connection[Any]:
    return cast("psycopg.Cursor[Any]", cursor).connection
