"""Leases and worker rows: no state changes here, but the right to make them is renewed.

A worker is lost when the engine notes that its row is as old as a lease; it is online again with
its next report. Both are events of the platform, made by the statement that notes them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks_app.db import Cursor
from tasks_app.events import PlatformEventType
from tasks_app.transitions.platform import platform_event

_RENEW = """
WITH held AS MATERIALIZED (
    SELECT t.id, h.epoch FROM taskmill_task t JOIN unnest(%(ids)s::uuid[], %(epochs)s::bigint[]) AS
        h(id, epoch)
      ON t.id = h.id AND t.epoch = h.epoch
    WHERE t.state IN ('running', 'cancelling') ORDER BY t.id FOR UPDATE OF t
)
UPDATE taskmill_task t SET lease_expires_at = taskmill_now() + make_interval(secs =>
    %(lease)s::float8)
FROM held WHERE t.id = held.id AND t.epoch = held.epoch AND t.state IN ('running', 'cancelling')
RETURNING t.id, t.epoch, t.cancel_requested_at, t.cancel_grace_seconds, t.run_deadline <
    taskmill_now()
"""


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """What the store says of a lease that is still held; a lease missing in the answer is lost."""

    id: uuid.UUID
    epoch: int
    cancel_requested_at: datetime | None
    cancel_grace_seconds: float | None
    is_overdue: bool


def renew_leases(
    cursor: Cursor, held: Sequence[tuple[uuid.UUID, int]], *, lease_seconds: float
) -> list[LeaseAnswer]:
    """Renew the leases `(task id, epoch)` of a worker in one statement."""
    if not held:
        return []
    values = {
        "ids": [one[0] for one in held],
        "epochs": [one[1] for one in held],
        "lease": lease_seconds,
    }
    cursor.execute(_RENEW, values)
    return [LeaseAnswer(*row) for row in cursor.fetchall()]


_ONLINE = platform_event(
    PlatformEventType.WORKER_ONLINE,
    subject="s.id",
    rows="seen s WHERE s.is_new OR s.was_lost",
    actor="s.name",
    data="jsonb_build_object('name', s.name, 'queues', s.queues, 'slots', s.slots)",
)
_REPORT_WORKER = f"""
WITH before AS MATERIALIZED (
    SELECT lost_at FROM taskmill_worker WHERE id = %(id)s FOR UPDATE
), seen AS (
    INSERT INTO taskmill_worker AS w (id, name, queues, slots, busy, memory_bytes, is_stopping,
        started_at, last_seen_at)
    SELECT %(id)s, %(name)s, %(queues)s::text[], %(slots)s, %(busy)s, %(memory)s, %(stopping)s,
        taskmill_now(), taskmill_now()
    FROM (SELECT count(*) FROM before) AS locked_first
    ON CONFLICT (id) DO UPDATE SET queues = excluded.queues, slots = excluded.slots, busy =
        excluded.busy,
        memory_bytes = excluded.memory_bytes, is_stopping = excluded.is_stopping, last_seen_at =
        excluded.last_seen_at, lost_at = NULL
    RETURNING w.id, w.name, w.queues, w.slots, w.started_at = w.last_seen_at AS is_new,
        EXISTS (SELECT 1 FROM before WHERE lost_at IS NOT NULL) AS was_lost
), {_ONLINE}
SELECT (SELECT count(pg_notify('taskmill_dispatch', q)) FROM unnest(s.queues) AS q) FROM seen s
    WHERE s.is_new
"""  # noqa: S608 - built from constants


def report_worker(
    cursor: Cursor,
    *,
    worker_id: str,
    name: str,
    queues: Sequence[str],
    slots: int,
    busy: int,
    memory_bytes: int,
    is_stopping: bool,
) -> None:
    """Say that a worker is there; the first report rings for the dispatcher."""
    cursor.execute(
        _REPORT_WORKER,
        {
            "id": worker_id,
            "name": name,
            "queues": list(queues),
            "slots": slots,
            "busy": busy,
            "memory": memory_bytes,
            "stopping": is_stopping,
        },
    )


_LOST = platform_event(
    PlatformEventType.WORKER_LOST,
    subject="m.id",
    rows="changed m ORDER BY m.last_seen_at, m.id",
    data="""jsonb_build_object('name', m.name, 'queues', m.queues, 'slots', m.slots,
            'last_seen_at', m.last_seen_at)""",
)
_NOTE_LOST = f"""
WITH old AS MATERIALIZED (
    SELECT id FROM taskmill_worker
    WHERE last_seen_at < taskmill_now() - make_interval(secs => %(lease)s::float8)
      AND lost_at IS NULL
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE taskmill_worker w SET lost_at = taskmill_now() FROM old WHERE w.id = old.id
    RETURNING w.id, w.name, w.queues, w.slots, w.last_seen_at
), {_LOST}
SELECT count(*) FROM changed
"""  # noqa: S608 - built from constants


def note_lost_workers(cursor: Cursor, *, lease_seconds: float, limit: int) -> int:
    """Note the workers that have given no sign for as long as a lease; say how many."""
    cursor.execute(_NOTE_LOST, {"lease": lease_seconds, "limit": limit})
    return int(cursor.fetchone()[0])


def forget_worker(cursor: Cursor, worker_id: str) -> None:
    """Remove the row of a worker that stopped in order."""
    cursor.execute("DELETE FROM taskmill_worker WHERE id = %(id)s", {"id": worker_id})
