"""Two operations on two connections in an enforced order: the second starts while the first holds
its rows, and ends after the first has committed (or at once, where it skips locked rows).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from tasks_app import transitions
from tasks_app.clock import monotonic
from tests.attempts import claim_one, interrupt_one, succeed_one
from tests.protocol.checkers import read_history, violations
from tests.protocol.world import create_tenant

Operation = Callable[[Any], Any]
"""Takes a cursor, gives what the transition gave."""

WAIT_SECONDS = 20.0
LEASE = 15.0


class Arena:
    """Two connections to fight on, a third that prepares and watches, and a tenant."""

    def __init__(
        self,
        left: psycopg.Connection[Any],
        right: psycopg.Connection[Any],
        watcher: psycopg.Connection[Any],
    ) -> None:
        self.left, self.right, self.watcher = left, right, watcher
        self.tenant = create_tenant(watcher.cursor())

    def duel(self, first: Operation, second: Operation) -> tuple[Any, Any]:
        """Run `first`, then `second` while the rows of `first` are still locked; commit both."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            with self.left.transaction():
                before = first(self.left.cursor())
                other = pool.submit(self._run_right, second)
                self._wait_until_blocked_or_done(other)
            return before, other.result(timeout=WAIT_SECONDS)

    def _run_right(self, operation: Operation) -> Any:
        with self.right.transaction():
            return operation(self.right.cursor())

    def _wait_until_blocked_or_done(self, other: Future[Any]) -> None:
        end = monotonic() + WAIT_SECONDS
        pid = self.right.info.backend_pid
        pause = threading.Event()
        while monotonic() < end and not other.done():
            cursor = self.watcher.execute(
                "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", [pid]
            )
            row = cursor.fetchone()
            if row is not None and row[0]:
                return
            pause.wait(0.005)
        assert other.done(), "the second side neither waits for a lock nor ends"

    # --- a task in the state that a duel starts from ---------------------------------------

    def queued(self, **options: Any) -> uuid.UUID:
        """Submit a task."""
        new = transitions.NewTask(
            tenant_id=self.tenant,
            type="demo.echo",
            queue="default",
            payload={},
            max_retry=3,
            process_timeout=60,
            **options,
        )
        [made] = transitions.insert_tasks(self.watcher.cursor(), [new])
        return made

    def dispatched(self) -> transitions.DispatchedTask:
        """Submit a task and give its hint."""
        task_id = self.queued()
        hints, _ = transitions.dispatch(self.watcher.cursor(), queue="default", room=100)
        return next(hint for hint in hints if hint.id == task_id)

    def running(self) -> transitions.Claim:
        """Submit a task and give the claim of its attempt."""
        claim = claiming(self.dispatched())(self.watcher.cursor())
        assert claim is not None
        return claim  # type: ignore[no-any-return]  # Operation gives Any

    def failed(self, **options: Any) -> uuid.UUID:
        """Give a task that ended as failed."""
        task_id = self.queued(**options)
        cursor = self.watcher.cursor()
        hints, _ = transitions.dispatch(cursor, queue="default", room=100)
        for hint in hints:
            claim = claiming(hint)(cursor)
            failing(claim)(cursor)
        return task_id

    def state_of(self, task_id: uuid.UUID) -> str:
        """Give the stored state."""
        row = self.watcher.execute(
            "SELECT state FROM taskmill_task WHERE id = %s", [task_id]
        ).fetchone()
        assert row is not None
        return str(row[0])

    def set_clock(self, offset: str) -> None:
        """Shift the clock of all three connections."""
        for connection in (self.left, self.right, self.watcher):
            connection.execute(f"SET taskmill.clock_offset = '{offset}'")

    def violations(self) -> list[str]:
        """Check the whole history."""
        return violations(read_history(self.watcher.cursor()))


def claiming(hint: transitions.DispatchedTask, owner: str = "w") -> Operation:
    """Claim a hint."""
    return lambda cursor: claim_one(
        cursor, (hint.id, hint.dispatch_seq), owner=owner, lease_seconds=LEASE
    )


def succeeding(claim: transitions.Claim) -> Operation:
    """Finish an attempt well."""
    return lambda cursor: succeed_one(cursor, claim.id, epoch=claim.epoch)


def failing(claim: transitions.Claim) -> Operation:
    """Finish an attempt badly."""
    return lambda cursor: transitions.fail(
        cursor, claim.id, epoch=claim.epoch, state="failed", error="{}"
    )


def retrying(claim: transitions.Claim) -> Operation:
    """End an attempt with another to follow."""
    return lambda cursor: transitions.retry(
        cursor, claim.id, epoch=claim.epoch, delay_seconds=1, error="{}"
    )


def interrupting(claim: transitions.Claim) -> Operation:
    """Hand an attempt back."""
    return lambda cursor: interrupt_one(cursor, claim.id, epoch=claim.epoch)


def losing(claim: transitions.Claim) -> Operation:
    """Report the child of an attempt as dead."""
    return lambda cursor: transitions.lose(cursor, claim.id, epoch=claim.epoch, max_rescues=3)


def renewing(claim: transitions.Claim) -> Operation:
    """Renew a lease."""
    return lambda cursor: len(
        transitions.renew_leases(cursor, [(claim.id, claim.epoch)], lease_seconds=LEASE)
    )


def rescuing(cursor: Any) -> int:
    """Rescue what is lost."""
    return transitions.rescue(cursor, grace_seconds=5, max_rescues=3)


def expiring(cursor: Any) -> int:
    """End what runs too long."""
    return transitions.expire_running(cursor, grace_seconds=5)


def sweeping(cursor: Any) -> int:
    """Take lost hints back."""
    return transitions.sweep(cursor, publish_grace_seconds=15, redispatch_seconds=30)


def dispatching(cursor: Any) -> list[uuid.UUID]:
    """Dispatch what is ready."""
    hints, _ = transitions.dispatch(cursor, queue="default", room=100)
    return [hint.id for hint in hints]


def cancelling(arena: Arena, task_id: uuid.UUID) -> Operation:
    """Ask a task to stop."""
    return lambda cursor: transitions.request_cancel(
        cursor,
        tenant_id=arena.tenant,
        task_id=task_id,
        actor="api",
        reason="",
        grace_seconds=None,
    )


def redriving(arena: Arena, *task_ids: uuid.UUID) -> Operation:
    """Queue finished tasks once more."""
    return lambda cursor: transitions.redrive(
        cursor, tenant_id=arena.tenant, task_ids=task_ids, actor="admin"
    )


def revising(arena: Arena, task_id: uuid.UUID) -> Operation:
    """Change the priority of a waiting task."""
    return lambda cursor: transitions.revise(
        cursor,
        tenant_id=arena.tenant,
        task_id=task_id,
        version=None,
        changes={"priority": 9},
        actor="api",
    )


def submitting(arena: Arena, unique_key: str) -> Operation:
    """Submit a task with a unique key; gives its id, or None where a live task holds the key."""

    def submit(cursor: Any) -> uuid.UUID | None:
        new = transitions.NewTask(
            tenant_id=arena.tenant,
            type="demo.echo",
            queue="default",
            payload={},
            max_retry=3,
            process_timeout=60,
            unique_key=unique_key,
        )
        return next(iter(transitions.insert_tasks(cursor, [new])), None)

    return submit
