"""Verbs promote, block, unblock, dispatch and sweep: from waiting to a hint in the broker, and back
when the hint is lost.

Called by the dispatch and maintain loops. `dispatch` and `unblock` run in the transaction that
holds the loop's leader row,
which makes them the only writers of new slots: the count of a key's slots cannot change under them
except downwards.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tasks_app.db import Cursor
from tasks_app.models import QueueOrder
from tasks_app.transitions.picking import ORDERS, pick_of
from tasks_app.transitions.sql import MOVED, TOUCH, event, reason


@dataclass(frozen=True, slots=True)
class DispatchedTask:
    """A hint to publish: `(id, dispatch_seq)` for the Celery task `type` on the queue `queue`."""

    id: uuid.UUID
    dispatch_seq: int
    type: str
    queue: str
    process_timeout: int


def _dispatch_in(order: QueueOrder) -> str:
    by = ORDERS[order]
    return f"""
WITH {pick_of(order)}, verdict AS (
    SELECT p.id, p.concurrency_key IS NULL OR p.max_concurrency IS NULL OR p.max_concurrency >=
        row_number() OVER (PARTITION BY p.tenant_id, p.concurrency_key
            ORDER BY {by.format(t="p.")}) + CASE WHEN p.concurrency_key IS NULL THEN 0 ELSE
            (SELECT count(*) FROM taskmill_task a
             WHERE a.tenant_id = p.tenant_id AND a.concurrency_key = p.concurrency_key AND
                 a.finished_at IS NULL
               AND a.state IN ('dispatched', 'running', 'cancelling')) END AS fits
    FROM pick p
), moved AS (
    UPDATE taskmill_task t SET
        state = CASE WHEN v.fits THEN 'dispatched' ELSE 'blocked' END,
        dispatch_seq = t.dispatch_seq + v.fits::int,
        dispatched_at = CASE WHEN v.fits THEN taskmill_now() END,
        published_at = NULL, {TOUCH}
    FROM verdict v WHERE t.id = v.id
    RETURNING {MOVED}, t.dispatch_seq, t.type, t.queue, t.process_timeout, t.priority, t.run_at
), {event(kind="'task.' || m.state", from_state="'queued'", order=by.format(t=""))}
SELECT id, dispatch_seq, type, queue, process_timeout, state FROM moved
ORDER BY {by.format(t="")}
"""  # noqa: S608 - built from constants


_DISPATCH = {order: _dispatch_in(order) for order in QueueOrder}


def dispatch(
    cursor: Cursor, *, queue: str, room: int, order: QueueOrder = QueueOrder.PRIORITY
) -> tuple[list[DispatchedTask], int]:
    """Take at most `room` ready tasks in the queue's order; those whose key is full are parked as
    blocked. A paused queue gives none.

    Returns:
        The tasks to publish in that order, and how many were parked.
    """
    cursor.execute(_DISPATCH[order], {"queue": queue, "room": room})
    rows = cursor.fetchall()
    return [DispatchedTask(*row[:5]) for row in rows if row[5] == "dispatched"], sum(
        row[5] == "blocked" for row in rows
    )


_UNBLOCK = f"""
WITH keys AS (
    SELECT tenant_id, concurrency_key FROM taskmill_task
    WHERE state = 'blocked' AND concurrency_key IS NOT NULL AND finished_at IS NULL
    GROUP BY 1, 2
), used AS (
    SELECT k.*, (SELECT count(*) FROM taskmill_task a
        WHERE a.tenant_id = k.tenant_id AND a.concurrency_key = k.concurrency_key
          AND a.finished_at IS NULL AND a.state IN ('dispatched', 'running', 'cancelling')) AS slots
    FROM keys k
), ready AS (
    SELECT u.tenant_id, u.concurrency_key, q.queue, count(*) AS tasks
    FROM used u JOIN taskmill_task q
      ON q.tenant_id = u.tenant_id AND q.concurrency_key = u.concurrency_key
    WHERE q.state = 'queued' AND q.finished_at IS NULL AND q.run_at <= taskmill_now()
    GROUP BY 1, 2, 3
), free AS MATERIALIZED (
    SELECT b.id FROM used u CROSS JOIN LATERAL (
        SELECT c.id, c.queue, c.max_concurrency,
            row_number() OVER (ORDER BY c.priority DESC, c.run_at, c.id) AS place
        FROM taskmill_task c
        WHERE c.state = 'blocked' AND c.tenant_id = u.tenant_id
          AND c.concurrency_key = u.concurrency_key AND c.finished_at IS NULL
        ORDER BY c.priority DESC, c.run_at, c.id LIMIT 100
    ) b LEFT JOIN ready r ON r.tenant_id = u.tenant_id
        AND r.concurrency_key = u.concurrency_key AND r.queue = b.queue
    WHERE b.max_concurrency >= u.slots + coalesce(r.tasks, 0) + b.place LIMIT 1000
), locked AS MATERIALIZED (
    SELECT id FROM taskmill_task
    WHERE id IN (SELECT id FROM free) AND state = 'blocked' ORDER BY id FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE taskmill_task t SET state = 'queued', {TOUCH} FROM locked l WHERE t.id = l.id
    RETURNING {MOVED}
), {event(kind="'task.queued'", from_state="'blocked'", data=reason("slot_free"))}
SELECT count(*) FROM moved
"""  # noqa: S608 - built from constants


def unblock(cursor: Cursor) -> int:
    """Return parked tasks whose key has room again to the ready index; gives how many.

    Tasks of the key that are ready in the same queue go first. Those of another queue do not: it
    may have no worker, and would then hold the key for ever.
    """
    cursor.execute(_UNBLOCK)
    return int(cursor.fetchone()[0])


_MARK_PUBLISHED = """
WITH sent AS MATERIALIZED (
    SELECT t.id FROM taskmill_task t JOIN unnest(%(ids)s::uuid[], %(seqs)s::int[]) AS h(id, seq)
      ON t.id = h.id AND t.dispatch_seq = h.seq
    WHERE t.state = 'dispatched' FOR UPDATE OF t SKIP LOCKED
)
UPDATE taskmill_task t SET published_at = taskmill_now() FROM sent WHERE t.id = sent.id
"""


def mark_published(cursor: Cursor, tasks: Sequence[DispatchedTask]) -> None:
    """Stamp the hints that the broker confirmed; those already claimed need no stamp.

    Rows that somebody else has locked are skipped: they are being claimed or cancelled, and
    waiting for them could deadlock with a transaction that changes several tasks.
    """
    cursor.execute(
        _MARK_PUBLISHED,
        {"ids": [task.id for task in tasks], "seqs": [task.dispatch_seq for task in tasks]},
    )


def _requeue(guard: str, why: str, *, sweeps: str) -> str:
    return f"""
    WITH old AS MATERIALIZED (
        SELECT id FROM taskmill_task t WHERE state = 'dispatched' AND {guard}
        ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE taskmill_task t SET state = 'queued', sweeps = {sweeps}, {TOUCH}
        FROM old WHERE t.id = old.id RETURNING {MOVED}
    ), {event(kind="'task.queued'", from_state="'dispatched'", data=reason(why))}
    SELECT count(*) FROM moved
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
_UNDISPATCH = _requeue(
    "(id, dispatch_seq) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(seqs)s::int[]))",
    "not_published",
    sweeps="t.sweeps",
)

_TAKE_BACK = _requeue("queue = %(queue)s", "queue_paused", sweeps="t.sweeps")


def take_back(cursor: Cursor, *, queue: str) -> int:
    """Take back at most 1,000 hints of a queue that no worker has claimed; gives how many.

    Hints whose row somebody has locked are skipped: they are being claimed or changed.
    """
    cursor.execute(_TAKE_BACK, {"queue": queue})
    return int(cursor.fetchone()[0])


_ACTIVE = """
SELECT (SELECT count(*) FROM taskmill_task d WHERE d.state = 'dispatched' AND d.queue = %(queue)s)
     + (SELECT count(*) FROM taskmill_task r
        WHERE r.state IN ('running', 'cancelling') AND r.queue = %(queue)s)
"""


def active_tasks(cursor: Cursor, *, queue: str) -> int:
    """Count the tasks of a queue that are handed out or run: its slots in use.

    Concurrency: exact while the transaction holds the dispatch loop's leader row, but for tasks
    that end meanwhile.
    """
    cursor.execute(_ACTIVE, {"queue": queue})
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
    RETURNING {MOVED}
), {
    event(
        kind="'task.' || m.state",
        from_state="'dispatched'",
        actor="%(worker)s::text",
        data="%(error)s::jsonb",
    )
}
SELECT state FROM moved
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
