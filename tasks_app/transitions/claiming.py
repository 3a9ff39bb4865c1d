"""Verb claim: the right of one worker to make attempts, taken by the numbers of the hints."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks_app.db import Cursor, array_of
from tasks_app.hints import Hint
from tasks_app.transitions.sql import MOVED, STATE, TOUCH, event


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed attempt with all that running it needs."""

    id: uuid.UUID
    epoch: int
    attempt: int
    attempt_base: int
    max_retry: int
    type: str
    queue: str
    priority: int
    payload: Any
    metadata: dict[str, Any]
    tags: list[str]
    retry_policy: dict[str, Any] | None
    run_deadline: datetime
    process_timeout: int
    traceparent: str
    tenant_id: int
    tenant: str
    root: uuid.UUID | None = None
    depth: int = 0

    @property
    def attempts_made(self) -> int:
        """Attempts since submission or redrive, this one included."""
        return self.attempt - self.attempt_base

    @property
    def attempts_left(self) -> int:
        """Attempts that may still follow this one."""
        return self.max_retry + 1 - self.attempts_made


_CLAIM = f"""
WITH hint AS MATERIALIZED (
    SELECT t.id, h.place
    FROM unnest(%(ids)s::uuid[], %(seqs)s::int[]) WITH ORDINALITY AS h(id, seq, place)
    JOIN taskmill_task t ON t.id = h.id
    WHERE {STATE} = 'dispatched' AND t.dispatch_seq = h.seq
      AND (t.queue_deadline IS NULL OR t.queue_deadline > taskmill_now())
    ORDER BY t.id FOR UPDATE OF t
), claimed AS (
    UPDATE taskmill_task t SET
        state = 'running', epoch = t.epoch + 1, attempt = t.attempt + 1,
        lease_owner = %(owner)s, worker = %(worker)s,
        lease_expires_at = taskmill_now() + make_interval(secs => %(lease)s::float8),
        run_deadline = taskmill_now() + make_interval(secs => t.process_timeout),
        queue_deadline = NULL, started_at = taskmill_now(), sweeps = 0, hand_backs = 0,
        progress = 0, progress_message = '', progress_detail = NULL, {TOUCH}
    FROM hint h WHERE t.id = h.id
    RETURNING {MOVED}, t.attempt_base, t.max_retry, t.type, t.queue, t.priority, t.payload,
        t.metadata, t.tags,
        t.retry_policy, t.run_deadline, t.process_timeout, t.traceparent, t.worker,
        t.root, t.depth, h.place
), {
    event(
        kind="'task.started'",
        from_state="'dispatched'",
        actor="m.worker",
        moved="claimed",
        order="place",
    )
}
SELECT m.id, m.epoch, m.attempt, m.attempt_base, m.max_retry, m.type, m.queue, m.priority,
    m.payload, m.metadata, m.tags, m.retry_policy, m.run_deadline, m.process_timeout,
    m.traceparent, m.tenant_id, n.slug, m.root, m.depth
FROM claimed m JOIN taskmill_tenant n ON n.id = m.tenant_id ORDER BY m.place
"""  # noqa: S608 - built from constants


def claim(
    cursor: Cursor, hints: Sequence[Hint], *, owner: str, worker: str, lease_seconds: float
) -> list[Claim]:
    """Take the attempts that the hints of a message name, in one statement.

    Args:
        hints: of different tasks.
        owner: the worker process's id, which its lease keeper renews by.
        worker: `host:pid` for people.

    Returns:
        The claims in the order of the hints. Those that claim nothing are missing: drop them (they
        are duplicates, stale, or of cancelled or expired tasks).
    """
    values = {
        "ids": array_of(hint[0] for hint in hints),
        "seqs": array_of(hint[1] for hint in hints),
        "owner": owner,
        "worker": worker,
        "lease": lease_seconds,
    }
    cursor.execute(_CLAIM, values)
    return [Claim(*row) for row in cursor.fetchall()]
