"""The store beside its reference: one connection, one transaction per example, a clock to move.

`now()` stands still inside a transaction, so that `taskmill.clock_offset` is the whole of time and
every timestamp can be predicted.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import psycopg

from tasks_app import db
from tests.protocol.reference import EndedAttempt, Reference, ReferenceTask

_COLUMNS = """id, queue, state, priority, run_at, updated_at, queue_deadline, queued_at,
    started_at, dispatched_at, published_at, lease_expires_at, run_deadline, lease_owner,
    cancel_requested_at IS NOT NULL, cancel_grace_seconds, attempt, attempt_base, epoch, rescues,
    interrupts, sweeps, hand_backs, dispatch_seq, substring(blocked_by from '[^/]*$'),
    substring(let_go_by from '[^/]*$')"""


class World:
    """A transaction that is rolled back at the end, with a tenant, a reference and a clock."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = False
        self.connection = connection
        self.start: datetime
        self.cursor: Any = connection.cursor()
        self.reference = Reference()
        now = connection.execute("SELECT now()").fetchone()
        assert now is not None
        (self.start,) = now
        self.tenant = create_tenant(self.cursor)
        self.set_clock(0.0)

    def set_clock(self, seconds: float) -> None:
        """Move the store's clock and the reference's to `seconds` after the start."""
        self.reference.now = seconds
        self.cursor.execute(f"SET LOCAL taskmill.clock_offset = '{seconds:f} seconds'")

    def close(self) -> None:
        """Forget the example."""
        self.connection.rollback()
        self.connection.autocommit = True

    def differences(self) -> list[str]:
        """Compare every row with the reference, column by column."""
        self.cursor.execute(f"SELECT {_COLUMNS} FROM taskmill_task")
        rows = {row[0]: self._plain(row) for row in self.cursor.fetchall()}
        expected = {one.id: _expected(one) for one in self.reference.tasks.values()}
        found = [f"only on one side: {one}" for one in rows.keys() ^ expected.keys()]
        for task_id in rows.keys() & expected.keys():
            found += [
                f"task {task_id.int} {name}: store {is_!r}, reference {should!r}"
                for name, is_, should in zip(_NAMES, rows[task_id], expected[task_id], strict=True)
                if is_ != should
            ]
        return found

    def ended_attempts(self) -> dict[uuid.UUID, dict[int, EndedAttempt]]:
        """Give the attempts that are over, by task and epoch."""
        self.cursor.execute(
            "SELECT task_id, epoch, attempt, outcome, queued_at, started_at FROM taskmill_attempt"
        )
        ended: dict[uuid.UUID, dict[int, EndedAttempt]] = {}
        for task_id, epoch, *rest in self.cursor.fetchall():
            number, outcome, queued_at, started_at = self._plain((None, *rest))
            ended.setdefault(task_id, {})[epoch] = (number, outcome, queued_at, started_at)
        return ended

    def _plain(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            round((value - self.start).total_seconds(), 6) if isinstance(value, datetime) else value
            for value in row[1:]
        )


_NAMES = (
    "queue",
    "state",
    "priority",
    "run_at",
    "updated_at",
    "queue_deadline",
    "queued_at",
    "started_at",
    "dispatched_at",
    "published_at",
    "lease_until",
    "run_deadline",
    "owner",
    "is_cancel_asked",
    "cancel_grace",
    "attempt",
    "attempt_base",
    "epoch",
    "rescues",
    "interrupts",
    "sweeps",
    "hand_backs",
    "dispatch_seq",
    "blocked_by",
    "let_go_by",
)


def _expected(task: ReferenceTask) -> tuple[Any, ...]:
    return tuple(getattr(task, name) for name in _NAMES)


def create_tenant(cursor: db.Cursor, slug: str = "acme") -> int:
    """Insert a tenant and give its id."""
    cursor.execute(
        "INSERT INTO taskmill_tenant (slug, name, is_active, created_at)"
        " VALUES (%(slug)s, %(slug)s, true, now()) RETURNING id",
        {"slug": slug},
    )
    return int(cursor.fetchone()[0])
