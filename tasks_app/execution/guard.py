"""Watches the attempts of the worker's children.

Stops trusting leases, delivers cancels, enforces deadlines, kills.

A thread of the main process that never touches the database: whatever the store does, an attempt
whose lease is not surely ours any more is dead in time. What it did is told to the lease keeper as
reports, which writes it.
"""

from __future__ import annotations

import queue
import signal
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.execution import kill
from tasks_app.execution.slots import Interrupt, Running, SlotTable
from tasks_app.telemetry import logger

TICK_SECONDS: Final = 0.1

log = logger(__name__)


class End(StrEnum):
    """How the main process saw an attempt end, or what it delivered."""

    LOST = "lost"
    CANCEL_DELIVERED = "cancel_delivered"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Report:
    """Something for the lease keeper to write.

    Attributes:
        how: for cancels.
        members: what else the child held, where it is dead.
    """

    end: End
    running: Running
    how: str = ""
    members: Sequence[tuple[uuid.UUID, int]] = ()


@dataclass(slots=True)
class _Watch:
    running: Running
    trusted_until: float
    kill_cancelled_at: float | None = None
    is_timeout_sent: bool = False
    lost_at: float | None = None


class Guard(threading.Thread):
    """The watching thread.

    Args:
        terminate: ends a pool child by SIGKILL in the pool's own way.
        pool_pids: gives the pids of the pool.
        tell: called after a report was put.
    """

    def __init__(
        self,
        table: SlotTable,
        *,
        terminate: Callable[[int], None],
        pool_pids: Callable[[], list[int]],
        tell: Callable[[], None],
    ) -> None:
        super().__init__(name="taskmill-guard", daemon=True)
        self.reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._table = table
        self._terminate = terminate
        self._pool_pids = pool_pids
        self._tell = tell
        self._watches: dict[tuple[int, int], _Watch] = {}
        self._cancels: Mapping[tuple[uuid.UUID, int], float | None] = {}
        self._lock = threading.Lock()
        self._strangers = kill.Strangers()
        self._strangers_at = monotonic()
        self._interrupt_at: float | None = None
        self._end = threading.Event()

    def run(self) -> None:
        """Watch until `finish`."""
        while not self._end.wait(TICK_SECONDS):
            try:
                self.run_once()
            except Exception:
                log.exception("guard step failed")

    def finish(self) -> None:
        """End the thread."""
        self._end.set()
        self.join(10)

    def interrupt_all(self, *, after_seconds: float) -> None:
        """Kill and hand back what still runs after some seconds."""
        self._interrupt_at = monotonic() + after_seconds

    def held(self) -> list[Running]:
        """Give the attempts whose leases are to be renewed."""
        return [running for running in self._table.running() if not self._table.is_taken(running)]

    def members(self) -> list[tuple[uuid.UUID, int]]:
        """Give what the children hold beside the attempts that run: some have ended already."""
        running = {(one.task_id, one.epoch) for one in self._table.running()}
        held = (one for index in range(self._table.size) for one in self._table.members(index))
        return [one for one in held if one not in running]

    def cancel_when_begun(self, cancels: Mapping[tuple[uuid.UUID, int], float | None]) -> None:
        """Deliver cancels of members once these run; replaces what was told before.

        Args:
            cancels: grace seconds by task id and epoch.
        """
        self._cancels = cancels

    def renewed(self, running: Running, *, at: float) -> None:
        """Trust a lease that was renewed by a statement sent at a monotonic instant."""
        with self._lock:
            watch = self._watch(running)
            watch.trusted_until = max(watch.trusted_until, _trust_end(at))

    def lost(self, running: Running) -> None:
        """Note that the store gave the lease to somebody else or ended the attempt.

        Or that the child has just written how it ended, and not yet said so here: it has a tick.
        """
        with self._lock:
            watch = self._watch(running)
            watch.lost_at = watch.lost_at or monotonic()

    def cancel(self, running: Running, *, grace_seconds: float | None) -> None:
        """Deliver a cancel, or shorten the grace of one that was delivered."""
        grace = conf().kill_grace_seconds if grace_seconds is None else grace_seconds
        with self._lock:
            watch = self._watch(running)
            is_first = watch.kill_cancelled_at is None
            kill_at = monotonic() + grace
            watch.kill_cancelled_at = min(kill_at, watch.kill_cancelled_at or kill_at)
        if is_first and self._table.is_current(running):
            self._table.order_cancel(running)
            self._interrupt(running, Interrupt.CANCEL)
            kill.ask_descendants_to_stop(running.pid)
            self._report(End.CANCEL_DELIVERED, running, how="SIGTERM")

    def run_once(self) -> int:
        """Look at every attempt once; gives how many were ended."""
        now = monotonic()
        with self._lock:
            current = {(one.index, one.run): one for one in self._table.running()}
            begun = [one for key, one in current.items() if key not in self._watches]
            for running in begun:
                self._watch(running)
            self._watches = {key: w for key, w in self._watches.items() if key in current}
            for key, watch in self._watches.items():
                watch.running = current[key]
            watches = list(self._watches.values())
        for running in begun:
            if (asked := (running.task_id, running.epoch)) in self._cancels:
                self.cancel(running, grace_seconds=self._cancels[asked])
        ended = sum(self._look_at(watch, now) for watch in watches)
        if now - self._strangers_at >= 1.0:
            self._strangers_at = now
            self._strangers.sweep(self._pool_pids())
        return ended

    def _watch(self, running: Running) -> _Watch:
        key = (running.index, running.run)
        found = self._watches.get(key)
        if found is None:
            found = self._watches[key] = _Watch(running, _trust_end(running.claimed_at))
        return found

    def _look_at(self, watch: _Watch, now: float) -> bool:
        running = watch.running
        if self._table.is_taken(running):
            return False
        if not kill.is_alive(running.pid):
            return self._end_dead(running)
        is_lost = watch.lost_at is not None and now - watch.lost_at >= TICK_SECONDS
        if is_lost or now > watch.trusted_until:
            return self._end_untrusted(running)
        if watch.kill_cancelled_at is not None and now > watch.kill_cancelled_at:
            return self._end_with(End.CANCELLED, running)
        if now > running.deadline + conf().kill_grace_seconds:
            return self._end_with(End.TIMED_OUT, running)
        if now > running.deadline and not watch.is_timeout_sent:
            watch.is_timeout_sent = True
            self._interrupt(running, Interrupt.TIMEOUT)
        if self._interrupt_at is not None and now > self._interrupt_at:
            return self._end_with(End.INTERRUPTED, running)
        return False

    def _end_dead(self, running: Running) -> bool:
        if not self._table.is_current(running):
            return False
        members = self._others(running)
        self._table.take(running)
        self._report(End.LOST, running, members=members)
        return True

    def _end_untrusted(self, running: Running) -> bool:
        if self._kill(running) is None:
            return False
        log.warning(
            "attempt killed, its lease is gone", task_id=str(running.task_id), epoch=running.epoch
        )
        return True

    def _end_with(self, end: End, running: Running) -> bool:
        members = self._others(running)
        is_clean = self._kill(running)
        if is_clean is None:
            return False
        how = "sigkill" if is_clean else "kill_unconfirmed"
        self._report(end, running, how, members)
        return True

    def _others(self, running: Running) -> list[tuple[uuid.UUID, int]]:
        """Give what the child of a run holds beside it; not of the run itself any more, nothing."""
        members = self._table.members(running.index)
        own = (running.task_id, running.epoch)
        return [one for one in members if one != own] if own in members else []

    def _kill(self, running: Running) -> bool | None:
        def is_wanted() -> bool:
            if not self._table.is_current(running):
                return False
            self._table.take(running)
            return True

        return kill.kill_tree(
            running.pid, is_wanted=is_wanted, kill_root=lambda: self._terminate(running.pid)
        )

    def _interrupt(self, running: Running, kind: Interrupt) -> None:
        self._table.order_interrupt(running, kind)
        kill.send(running.pid, signal.SIGUSR2)

    def _report(
        self,
        end: End,
        running: Running,
        how: str = "",
        members: Sequence[tuple[uuid.UUID, int]] = (),
    ) -> None:
        self.reports.put(Report(end, running, how, members))
        self._tell()


def _trust_end(at: float) -> float:
    """Give until when a lease asked for at `at` is trusted.

    The margin is at most a third of the lease.
    """
    lease = conf().lease_seconds
    return at + lease - min(conf().lease_margin_seconds, lease / 3)
