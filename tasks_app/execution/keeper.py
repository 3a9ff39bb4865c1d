"""Keeps the leases of a worker.

Renews them all in one statement, learns what the store wants, writes what the guard did.

A thread of the main process with its own connection, which also listens for cancels, so that they
arrive at once. It reports the worker itself with every renewal: a worker whose keeper is stuck is a
lost worker.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import Cursor
from tasks_app.execution.connection import BROKEN, Connection
from tasks_app.execution.guard import End, Guard, Report
from tasks_app.execution.orders import CancelOrder, HandBackOrder, Order, ReturnOrder, orders
from tasks_app.execution.outcomes import error_json
from tasks_app.execution.recover import cancel_revoked, end_timed_out
from tasks_app.policies import ErrorInfo
from tasks_app.selectors.queues import queues_with_row
from tasks_app.telemetry import logger

HAND_BACK_LIMIT: Final = 20
HAND_BACK_SECONDS: Final = (1.0, 3.0)

log = logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the worker row shows beside its identity.

    `memory_bytes` is the resident size of all its processes.
    """

    queues: tuple[str, ...]
    slots: int
    memory_bytes: int


class LeaseKeeper(threading.Thread):
    """The keeping thread.

    Args:
        owner: the worker's id; leases are held and cancels are rung under it.
        vitals: gives the worker's vitals, None until it consumes.
        serve: is told the queues that have a row, where there may be new ones.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        owner: str,
        worker: str,
        vitals: Callable[[], Vitals | None],
        serve: Callable[[Sequence[str]], None],
    ) -> None:
        super().__init__(name="taskmill-leases", daemon=True)
        self._guard = guard
        self._owner = owner
        self._worker = worker
        self._vitals = vitals
        self._serve = serve
        self._connection = Connection("lease", statement_timeout_seconds=conf().lease_seconds / 2)
        self._listening: psycopg.Connection[Any] | None = None
        self._bell = orders().bell
        self._renew_at = 0.0
        self._reports: list[Report] = []
        self._orders: list[Order] = []
        self._is_stopping = False
        self._end = threading.Event()

    def run(self) -> None:
        """Keep until `finish`; what fails for the database's sake is tried again."""
        while not self._end.is_set():
            try:
                self.run_once()
                self._wait()
            except BROKEN as error:
                log.warning("lease keeper waits for the database", reason=str(error)[:200])
                self._listening = None
                self._end.wait(0.5)
            except Exception:
                log.exception("lease keeper step failed")
                self._end.wait(0.5)
        self._connection.close()

    def renew_soon(self) -> None:
        """Renew and report at the next step."""
        self._renew_at = 0.0
        self._bell.ring()

    def stop_taking(self) -> None:
        """Show the worker as stopping."""
        self._is_stopping = True
        self.renew_soon()

    def finish(self, *, seconds: float) -> None:
        """Write what is left, remove the worker's row and end the thread.

        Gives the database `seconds` for it.
        """
        self._end.set()
        self._bell.ring()
        self.join(seconds)
        last = Connection("lease", statement_timeout_seconds=max(seconds, 0.1))
        try:
            self._write_what_waits(last)
            last.run(lambda cursor: transitions.forget_worker(cursor, self._owner))
        except BROKEN as error:
            log.warning("worker row is left to the maintain loop", reason=str(error)[:200])
        finally:
            last.close()

    def run_once(self) -> None:
        """Renew if it is time, write what the guard did, carry orders out.

        Leases come first: a write may wait for a row that somebody has locked.
        """
        self._listen()
        if monotonic() >= self._renew_at:
            self._renew()
        self._write_what_waits(self._connection)

    def _listen(self) -> None:
        raw = self._connection.raw()
        if raw is not self._listening:
            raw.execute("LISTEN taskmill_cancel")
            raw.execute("LISTEN taskmill_queues")
            self._listening = raw
            self._renew_at = 0.0

    def _wait(self) -> None:
        """Sleep until it is time to renew, or until rung by the store or from inside."""
        raw = self._connection.raw()
        self._hear(raw)
        self._bell.wait(raw.fileno(), max(0.0, self._renew_at - monotonic()))
        self._hear(raw)

    def _hear(self, raw: psycopg.Connection[Any]) -> None:
        """Look at what is notified; a cancel and a new queue are learned by renewing."""
        for notice in raw.notifies(timeout=0):
            if notice.payload == self._owner or notice.channel == "taskmill_queues":
                self.renew_soon()

    def _renew(self) -> None:
        asked_at = monotonic()
        self._renew_at = asked_at + conf().lease_seconds / 3
        held, members = self._guard.held(), self._guard.members()
        answers = self._connection.run(
            lambda cursor: transitions.renew_leases(
                cursor,
                [*((one.task_id, one.epoch) for one in held), *members],
                lease_seconds=conf().lease_seconds,
            )
        )
        found = {(answer.id, answer.epoch): answer for answer in answers}
        self._guard.cancel_when_begun(
            {
                one: found[one].cancel_grace_seconds
                for one in members
                if one in found and found[one].cancel_requested_at is not None
            }
        )
        for running in held:
            answer = found.get((running.task_id, running.epoch))
            if answer is None:
                self._guard.lost(running)
                continue
            self._guard.renewed(running, at=asked_at)
            if answer.cancel_requested_at is not None:
                self._guard.cancel(running, grace_seconds=answer.cancel_grace_seconds)
        self._report_worker(busy=len(held))

    def _report_worker(self, *, busy: int) -> None:
        vitals = self._vitals()
        if vitals is None:
            return
        self._serve(self._connection.run(queues_with_row))
        self._connection.run(
            lambda cursor: transitions.report_worker(
                cursor,
                worker_id=self._owner,
                name=self._worker,
                queues=vitals.queues,
                slots=vitals.slots,
                busy=busy,
                memory_bytes=vitals.memory_bytes,
                is_stopping=self._is_stopping,
            )
        )

    def _write_what_waits(self, connection: Connection) -> None:
        """Write reports, carry orders out; what the database's loss leaves is tried again.

        What fails for another reason is dropped, for one of them must not keep the others from
        their leases: the store ends an attempt or sends a hint anew by itself.
        """
        while not self._guard.reports.empty():
            self._reports.append(self._guard.reports.get())
        self._orders += orders().take()
        _each(self._reports, lambda one: connection.run(partial(self._write, one)))
        _each(self._orders, lambda one: self._carry_out(one, connection))

    def _write(self, report: Report, cursor: Cursor) -> None:
        running, facts = report.running, {"epoch": report.running.epoch}
        if report.members:
            transitions.interrupt(cursor, report.members, reason="worker_lost")
        match report.end:
            case End.LOST:
                rescues = conf().max_rescues
                transitions.lose(cursor, running.task_id, max_rescues=rescues, **facts)
            case End.CANCEL_DELIVERED:
                transitions.cancel_delivered(
                    cursor, running.task_id, worker=self._worker, signal=report.how, **facts
                )
            case End.CANCELLED:
                transitions.confirm_cancel(cursor, running.task_id, how=report.how, **facts)
            case End.INTERRUPTED:
                held = [(running.task_id, running.epoch)]
                transitions.interrupt(cursor, held, reason="worker_shutdown")
            case End.TIMED_OUT:
                end_timed_out(cursor, running.task_id, epoch=running.epoch)
        log.info(
            "attempt ended by the worker"
            if report.end != End.CANCEL_DELIVERED
            else "cancel delivered",
            task_id=str(running.task_id),
            end=report.end.value,
        )

    def _carry_out(self, order: Order, connection: Connection) -> None:
        match order:
            case CancelOrder(task_id=task_id):
                connection.run(partial(cancel_revoked, task_id=task_id))
            case HandBackOrder():
                self._hand_back(order, connection)
            case ReturnOrder(hints=hints):
                connection.run(partial(transitions.return_hints, hints=hints))

    def _hand_back(self, order: HandBackOrder, connection: Connection) -> None:
        least, most = HAND_BACK_SECONDS
        error = ErrorInfo(
            code="NO_CAPABLE_WORKER",
            type="taskmill",
            message=f"no worker of its queue knows the task type {order.task_type[:100]}",
        )
        connection.run(
            lambda cursor: transitions.hand_back(
                cursor,
                order.task_id,
                dispatch_seq=order.dispatch_seq,
                worker=self._worker,
                delay_seconds=random.uniform(least, most),  # noqa: S311 - spreads load, no secret
                limit=HAND_BACK_LIMIT,
                error=error_json(error, attempt=0, is_retryable=True),
            )
        )


def _each(waiting: list[T], carry_out: Callable[[T], Any]) -> None:
    """Carry out what waits, in its order, and let go of what is done or cannot be."""
    while waiting:
        try:
            carry_out(waiting[0])
        except BROKEN:
            raise
        except Exception:
            log.exception("dropped what cannot be written", what=repr(waiting[0])[:500])
        waiting.pop(0)
