"""Verb claim: the right of one worker to make one attempt, taken by the hint's number."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks_app.db import Cursor
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


CLAIM_PARTS = f"""claimed AS (
    UPDATE taskmill_task t SET
        state = 'running', epoch = t.epoch + 1, attempt = t.attempt + 1,
        lease_owner = %(owner)s, worker = %(worker)s,
        lease_expires_at = taskmill_now() + make_interval(secs => %(lease)s::float8),
        run_deadline = taskmill_now() + make_interval(secs => t.process_timeout),
        queue_deadline = NULL, started_at = taskmill_now(), sweeps = 0, hand_backs = 0,
        progress = 0, progress_message = '', progress_detail = NULL, {TOUCH}
    WHERE t.id = %(hint)s::uuid AND {STATE} = 'dispatched' AND t.dispatch_seq = %(seq)s
      AND (t.queue_deadline IS NULL OR t.queue_deadline > taskmill_now())
    RETURNING {MOVED}, t.attempt_base, t.max_retry, t.type, t.queue, t.priority, t.payload,
        t.metadata, t.tags,
        t.retry_policy, t.run_deadline, t.process_timeout, t.traceparent, t.worker,
        t.root, t.depth
), {
    event(
        kind="'task.started'",
        from_state="'dispatched'",
        actor="m.worker",
        moved="claimed",
        name="started",
    )
}"""  # noqa: S608 - built from constants
"""The CTEs of a claim; `claimed` is its row."""

CLAIM_ROW = """m.id, m.epoch, m.attempt, m.attempt_base, m.max_retry, m.type, m.queue, m.priority,
    m.payload, m.metadata, m.tags,
    m.retry_policy, m.run_deadline, m.process_timeout, m.traceparent, m.tenant_id, n.slug,
    m.root, m.depth"""
"""The columns of `Claim`, of `claimed m JOIN taskmill_tenant n`."""

_CLAIM = f"""
WITH {CLAIM_PARTS}
SELECT {CLAIM_ROW} FROM claimed m JOIN taskmill_tenant n ON n.id = m.tenant_id
"""  # noqa: S608 - built from constants


@dataclass(frozen=True, slots=True, kw_only=True)
class HintClaim:
    """A claim to make: of the attempt that a hint names, for a worker.

    Attributes:
        dispatch_seq: from the hint; an older hint claims nothing.
        owner: the worker process's id, which its lease keeper renews by.
        worker: `host:pid` for people.
    """

    task_id: uuid.UUID
    dispatch_seq: int
    owner: str
    worker: str
    lease_seconds: float

    def values(self) -> dict[str, Any]:
        """Give the parameters of `CLAIM_PARTS`."""
        return {
            "hint": self.task_id,
            "seq": self.dispatch_seq,
            "owner": self.owner,
            "worker": self.worker,
            "lease": self.lease_seconds,
        }


def claim(cursor: Cursor, wanted: HintClaim) -> Claim | None:
    """Take the attempt that a hint names.

    Returns:
        The claim, or None: drop the hint (it is a duplicate, stale, cancelled or expired one).
    """
    cursor.execute(_CLAIM, wanted.values())
    row = cursor.fetchone()
    return None if row is None else Claim(*row)
