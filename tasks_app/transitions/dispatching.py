"""Verbs promote and sweep, and what becomes of a hint: confirmed, refused, lost, handed back.

Called by the dispatch and maintain loops, and by workers; see `deciding` for the verb dispatch.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasks_app.db import Cursor, array_of
from tasks_app.transitions.sql import MOVED, RING_WHERE_FREED, RULED, TOUCH, event, reason

STAMPED_AT_A_TIME = 1000


@dataclass(frozen=True, slots=True)
class DispatchedTask:
    """A hint to publish: `(id, dispatch_seq)` for the Celery task `type` on the queue `queue`.

    Attributes:
        payload_bytes: of JSON; bundles are bounded by it.
    """

    id: uuid.UUID
    dispatch_seq: int
    type: str
    queue: str
    payload_bytes: int = 0


_UNSTAMPED = """
SELECT id, dispatch_seq FROM taskmill_task
WHERE state = 'dispatched' AND queue = ANY(%(queues)s::text[]) AND published_at IS NULL
"""
_MARK_PUBLISHED = """
WITH sent AS MATERIALIZED (
    SELECT t.id FROM taskmill_task t JOIN unnest(%(ids)s::uuid[], %(seqs)s::int[]) AS h(id, seq)
      ON t.id = h.id AND t.dispatch_seq = h.seq
    WHERE t.state = 'dispatched' FOR UPDATE OF t SKIP LOCKED
)
UPDATE taskmill_task t SET published_at = taskmill_now() FROM sent WHERE t.id = sent.id
"""


def mark_published(cursor: Cursor, tasks: Sequence[DispatchedTask]) -> None:
    """Stamp the hints that the broker confirmed, once; those already claimed need no stamp.

    Most are claimed by then, so what is still out is looked at first. Rows that somebody else has
    locked are skipped: they are being claimed or cancelled, and waiting for them could deadlock
    with a transaction that changes several tasks.
    """
    cursor.execute(_UNSTAMPED, {"queues": list({task.queue for task in tasks})})
    unstamped = set(cursor.fetchall())
    out = [task for task in tasks if (task.id, task.dispatch_seq) in unstamped]
    for start in range(0, len(out), STAMPED_AT_A_TIME):
        part = out[start : start + STAMPED_AT_A_TIME]
        values = {
            "ids": array_of(task.id for task in part),
            "seqs": array_of(task.dispatch_seq for task in part),
        }
        cursor.execute(_MARK_PUBLISHED, values)


_SKIP: Final = "SKIP LOCKED"
_WAIT: Final = ""


def _requeue(guard: str, why: str, *, sweeps: str = "t.sweeps", locked: str = _SKIP) -> str:
    return f"""
    WITH old AS MATERIALIZED (
        SELECT id FROM taskmill_task t WHERE state = 'dispatched' AND {guard}
        ORDER BY id LIMIT 1000 FOR UPDATE {locked}
    ), moved AS (
        UPDATE taskmill_task t SET state = 'queued', sweeps = {sweeps}, {TOUCH}
        FROM old WHERE t.id = old.id RETURNING {MOVED}, {RULED}
    ), {event(kind="'task.queued'", from_state="'dispatched'", data=reason(why))}
    SELECT count(*), {RING_WHERE_FREED} FROM moved
    """  # noqa: S608 - built from constants


_SWEEP = _requeue(
    """(
        (published_at IS NULL AND dispatched_at
            < taskmill_now() - make_interval(secs => %(publish_grace)s::float8))
        OR dispatched_at < taskmill_now()
            - make_interval(secs => %(redispatch)s::float8 * power(2, least(sweeps, 5))))""",
    "hint_lost",
    sweeps="least(t.sweeps + 1, 1000)",
)
_OF_HINTS = "(id, dispatch_seq) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(seqs)s::int[]))"
_UNDISPATCH = _requeue(_OF_HINTS, "not_published")
_RETURN_HINTS = _requeue(_OF_HINTS, "returned", locked=_WAIT)
_TAKE_BACK = _requeue("queue = %(queue)s", "queue_paused")


def take_back(cursor: Cursor, *, queue: str) -> int:
    """Take back at most 1,000 hints of a queue that no worker has claimed; gives how many.

    Hints whose row somebody has locked are skipped: they are being claimed or changed.
    """
    cursor.execute(_TAKE_BACK, {"queue": queue})
    return int(cursor.fetchone()[0])


def sweep(cursor: Cursor, *, publish_grace_seconds: float, redispatch_seconds: float) -> int:
    """Return tasks whose hint was surely or probably lost to the ready index; gives how many.

    Args:
        publish_grace_seconds: for hints never confirmed.
        redispatch_seconds: for hints never claimed; doubled by each sweep of the same task, at most
            32 times.
    """
    cursor.execute(
        _SWEEP, {"publish_grace": publish_grace_seconds, "redispatch": redispatch_seconds}
    )
    return int(cursor.fetchone()[0])


def return_hints(cursor: Cursor, hints: Sequence[tuple[uuid.UUID, int]]) -> int:
    """Take back hints `(task id, dispatch_seq)` that a worker has and will not run; at most 1,000.

    Rows that are locked are waited for, in the order in which claims lock them: the dispatcher
    stamps what the broker confirmed just when a worker gets it, and a hint that were passed over
    then would lie until the sweep.

    Returns:
        How many are queued again; those claimed, or handed out anew, are not.
    """
    ids, seqs = array_of(task_id for task_id, _ in hints), array_of(seq for _, seq in hints)
    cursor.execute(_RETURN_HINTS, {"ids": ids, "seqs": seqs})
    return int(cursor.fetchone()[0])


def undispatch(cursor: Cursor, tasks: Sequence[DispatchedTask]) -> int:
    """Take back hints that the broker did not confirm; gives how many no worker had claimed.

    Not counted as sweeps: an outage of the broker must not slow the sweeps after it.
    """
    cursor.execute(
        _UNDISPATCH,
        {"ids": [task.id for task in tasks], "seqs": [task.dispatch_seq for task in tasks]},
    )
    return int(cursor.fetchone()[0])


_HAND_BACK = f"""
WITH moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN t.hand_backs >= %(limit)s THEN 'error' ELSE 'queued' END,
        hand_backs = t.hand_backs + 1,
        run_at = taskmill_now() + make_interval(secs => %(delay)s::float8),
        finished_at = CASE WHEN t.hand_backs >= %(limit)s
            THEN greatest(t.updated_at, taskmill_now()) END,
        error = CASE WHEN t.hand_backs >= %(limit)s THEN %(error)s::jsonb ELSE t.error END, {TOUCH}
    WHERE t.id = %(id)s::uuid AND t.state = 'dispatched' AND t.dispatch_seq = %(seq)s
    RETURNING {MOVED}, {RULED}
), {
    event(
        kind="'task.' || m.state",
        from_state="'dispatched'",
        actor="%(worker)s::text",
        data="%(error)s::jsonb",
    )
}
SELECT state, {RING_WHERE_FREED} FROM moved
"""  # noqa: S608 - built from constants


def hand_back(
    cursor: Cursor,
    task_id: uuid.UUID,
    *,
    dispatch_seq: int,
    worker: str,
    delay_seconds: float,
    limit: int,
    error: str,
) -> str | None:
    """Give a hint back that this worker cannot run (unknown type); after `limit` of them in a row
    the task ends as error.

    Args:
        error: the JSON text of `{code, type, message, retryable, attempt}`.

    Returns:
        The new state, or None where the hint was stale.
    """
    values = {
        "id": task_id,
        "seq": dispatch_seq,
        "worker": worker,
        "delay": delay_seconds,
        "limit": limit,
        "error": error,
    }
    cursor.execute(_HAND_BACK, values)
    row = cursor.fetchone()
    return None if row is None else str(row[0])


_PROMOTE = f"""
WITH due AS MATERIALIZED (
    SELECT id, state FROM taskmill_task
    WHERE state IN ('scheduled', 'retrying') AND run_at <= taskmill_now()
    ORDER BY run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE taskmill_task t SET state = 'queued', queued_at = taskmill_now(), {TOUCH}
    FROM due WHERE t.id = due.id RETURNING {MOVED}, t.queue, due.state AS old_state
), {event(kind="'task.queued'", from_state="m.old_state", data=reason("due"))}
SELECT count(*), (SELECT count(pg_notify('taskmill_dispatch', q.queue)) FROM (SELECT DISTINCT queue
    FROM moved) q)
FROM moved
"""  # noqa: S608 - built from constants


def promote(cursor: Cursor) -> int:
    """Make due tasks ready, at most 1,000, and ring for the dispatcher; gives how many."""
    cursor.execute(_PROMOTE)
    return int(cursor.fetchone()[0])
