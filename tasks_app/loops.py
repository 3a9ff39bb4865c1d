"""The runner of the engine's loops: leadership, wake-ups, errors with backoff, graceful stop.

`manage.py engine` runs one `Loop` per thread. A loop owns one database connection at a time and
hands it to its `Work` while it leads. What a loop does is the work's; when, and whether at all,
is decided here.
"""

from __future__ import annotations

import os
import random
import secrets
import select
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg

from tasks_app import leadership
from tasks_app.clock import monotonic
from tasks_app.db import connect, process_name
from tasks_app.errors import InfrastructureError
from tasks_app.leadership import Leadership, LeadershipLost
from tasks_app.telemetry import logger

log = logger(__name__)

BACKOFF_LEAST_SECONDS = 0.1
BACKOFF_MOST_SECONDS = 2.0

Connection = psycopg.Connection[Any]


class Stop:
    """A stop request that threads test and wait for; safe to set in a signal handler.

    A pipe, not a `threading.Event`: a handler that interrupts a wait would wait for its lock.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._reader, self._writer = os.pipe()

    def set(self) -> None:
        """Ask every loop to stop; may be repeated."""
        if not self._is_set:
            self._is_set = True
            os.write(self._writer, b"x")

    def is_set(self) -> bool:
        """Say whether a stop was asked for."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait for the request at most so long; say whether it came."""
        select.select([self._reader], [], [], max(0.0, seconds))
        return self._is_set

    def fileno(self) -> int:
        """Give the descriptor that becomes readable and stays so, for `select`."""
        return self._reader

    def close(self) -> None:
        """Free the descriptors."""
        os.close(self._reader)
        os.close(self._writer)


def wait_for_bell(connection: Connection, stop: Stop, seconds: float) -> bool:
    """Wait until a notification arrives on the connection, a stop is asked for, or the time is
    over.

    Returns:
        Whether a notification arrived; all that have arrived count as one.

    Raises:
        psycopg.OperationalError: the connection is gone.
    """
    if _drain(connection):
        return True
    readable, _, _ = select.select([connection.fileno(), stop.fileno()], [], [], max(0.0, seconds))
    return connection.fileno() in readable and _drain(connection)


def _drain(connection: Connection) -> bool:
    return sum(1 for _ in connection.notifies(timeout=0)) > 0


class Health:
    """How long the database has answered without a gap, by the monotonic clock of this process.

    Args:
        gap_seconds: longest silence between two answers that still counts as continuous.
    """

    def __init__(self, gap_seconds: float) -> None:
        self._gap_seconds = gap_seconds
        self._since: float | None = None
        self._last = 0.0

    def seen(self, now: float) -> None:
        """Note an answer."""
        if self._since is None or now - self._last > self._gap_seconds:
            self._since = now
        self._last = now

    def lost(self) -> None:
        """Note a failure: the count begins anew with the next answer."""
        self._since = None

    def seconds(self, now: float) -> float:
        """Give the seconds of continuous health; 0 where a gap is open."""
        if self._since is None or now - self._last > self._gap_seconds:
            return 0.0
        return now - self._since


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a work is handed for one round.

    Attributes:
        connection: autocommit; the work may open transactions, and leaves none open.
        leadership: for `fence()` in transactions that only the leader may commit.
        stop: to be tested between steps of a long round.
        health: how long the database has answered continuously, standby time included.
        is_rung: whether a bell has rung since the last round, or may have.
    """

    connection: Connection
    leadership: Leadership
    stop: Stop
    health: Health
    is_rung: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round did, and how long the loop may wait for a bell before the next.

    Attributes:
        counts: tasks by what was done to them; zeros may be left out.
        wait_seconds: 0 for "again at once".
    """

    wait_seconds: float
    counts: Mapping[str, int] = field(default_factory=dict)


class Work(Protocol):
    """What a loop does while it leads."""

    name: str
    channels: tuple[str, ...]

    def run_once(self, turn: Turn, /) -> Round:
        """Do one round.

        Raises:
            InfrastructureError: a part other than the database does not answer; repeated with
            backoff. LeadershipLost: a fence refused; the loop becomes a standby. psycopg.Error:
            the loop connects anew, with backoff.
        """

    def rest(self, connection: Connection | None, /) -> None:
        """Finish what is pending and forget what only a leader may know; called when leading ends.

        Args:
            connection: None where the database does not answer.
        """


class Loop:
    """Runs a work while this process leads it, and stands by while another does.

    Args:
        lease_seconds: of the leadership; renewed every third of it.
        health_gap_seconds: see `Health`.
    """

    def __init__(
        self, work: Work, *, stop: Stop, lease_seconds: float, health_gap_seconds: float
    ) -> None:
        self.work = work
        self.holder = f"{process_name()}:{secrets.token_hex(4)}"
        self._stop = stop
        self._lease_seconds = lease_seconds
        self._health = Health(health_gap_seconds)
        self._led: Leadership | None = None
        self._renew_at = 0.0
        self._backoff_seconds = 0.0
        self._is_rung = True
        self._log = log.bind(loop=work.name)

    def run(self) -> None:
        """Run until the stop is set; errors are logged and followed by a new try."""
        while not self._stop.is_set():
            connection: Connection | None = None
            try:
                connection = self._connect()
                self._serve(connection)
            except psycopg.OperationalError as fault:
                self._leave(connection)
                self._failed("the database does not answer", fault)
            except Exception:  # noqa: BLE001 - boundary: no step may end its loop
                self._log.exception("the loop failed")
                self._leave(connection)
                self._failed("the loop starts anew", None)
            else:
                self._leave(connection)

    def _connect(self) -> Connection:
        connection = connect(self.work.name)
        # A leader that freezes inside a transaction would hold its row; the server ends it with
        # the lease.
        connection.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, false)",
            [f"{self._lease_seconds:.3f}s"],
        )
        for channel in (leadership.RELEASED_CHANNEL, *self.work.channels):
            connection.execute(f"LISTEN {channel}")  # constants of the works
        return connection

    def _serve(self, connection: Connection) -> None:
        while not self._stop.is_set():
            if self._hold(connection):
                self._lead(connection)
            else:
                wait_for_bell(connection, self._stop, min(1.0, self._lease_seconds / 5))

    def _hold(self, connection: Connection) -> bool:
        now = monotonic()
        self._health.seen(now)
        if self._led is not None and now < self._renew_at:
            return True
        held = leadership.hold(
            connection.cursor(),
            loop=self.work.name,
            holder=self.holder,
            lease_seconds=self._lease_seconds,
        )
        self._health.seen(monotonic())
        if held is None:
            if self._led is not None:
                self._step_down(connection)
            return False
        if self._led != held:
            self._log.info("leads", holder=self.holder, token=held.token)
        self._led = held
        self._renew_at = now + self._lease_seconds / 3
        return True

    def _lead(self, connection: Connection) -> None:
        assert self._led is not None  # noqa: S101 - _hold said so
        turn = Turn(
            connection=connection,
            leadership=self._led,
            stop=self._stop,
            health=self._health,
            is_rung=self._is_rung,
        )
        self._is_rung = True
        try:
            done = self.work.run_once(turn)
        except LeadershipLost:
            self._step_down(connection)
            return
        except InfrastructureError as fault:
            self._failed(fault.detail, fault.__cause__)
            return
        self._backoff_seconds = 0.0
        if any(done.counts.values()):
            self._log.debug("did a round", **done.counts)
        renew_in = max(0.0, self._renew_at - monotonic())
        if done.wait_seconds > 0:
            seconds = min(done.wait_seconds, renew_in)
            self._is_rung = wait_for_bell(connection, self._stop, seconds)

    def _step_down(self, connection: Connection) -> None:
        self._log.warning("leads no more", holder=self.holder)
        self._led = None
        self.work.rest(connection)

    def _failed(self, message: str, fault: BaseException | None) -> None:
        """Log and wait, longer each time, but less than the lease, which is kept meanwhile."""
        doubled = max(BACKOFF_LEAST_SECONDS, self._backoff_seconds * 2)
        self._backoff_seconds = min(doubled, BACKOFF_MOST_SECONDS, self._lease_seconds / 3)
        reason = "" if fault is None else str(fault)[:500]
        self._log.warning(message, reason=reason, retry_in_seconds=round(self._backoff_seconds, 2))
        self._stop.wait(self._backoff_seconds * (0.75 + random.random() / 2))  # noqa: S311 - jitter

    def _leave(self, connection: Connection | None) -> None:
        """End a connection: in order where the loop stops, so that a standby takes over at once."""
        try:
            usable = connection if connection is not None and not connection.broken else None
            if usable is None:
                self._health.lost()
            self.work.rest(usable)
            if usable is not None and self._led is not None and self._stop.is_set():
                self._led.release(usable.cursor())
                self._log.info("stepped down", holder=self.holder)
        except psycopg.Error as fault:
            self._log.warning("could not step down", reason=str(fault)[:500])
        finally:
            self._led = None
            if connection is not None:
                connection.close()
