"""The one database connection of a pool child (or of the lease keeper), reopened when it breaks.

Shared by the main thread and the sink's flusher: psycopg lets one statement at a time through. A
statement that fails for the connection's sake raises `psycopg.OperationalError` or
`InterfaceError`; the caller decides whether to repeat it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg

from tasks_app import db
from tasks_app.clock import monotonic
from tasks_app.telemetry import logger

T = TypeVar("T")

BROKEN: Final = (psycopg.OperationalError, psycopg.InterfaceError)
_LONGEST_PAUSE: Final = 2.0

log = logger(__name__)


class Connection:
    """A lazily opened connection with one cursor, so that statements stay prepared."""

    def __init__(self, role: str, *, statement_timeout_seconds: float = 30.0) -> None:
        self._role = role
        self._timeout = statement_timeout_seconds
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._cursor: psycopg.Cursor[Any] | None = None

    def run(self, statement: Callable[[db.Cursor], T]) -> T:
        """Run a function of a cursor, once.

        Raises:
            psycopg.OperationalError: the database does not answer or gave the statement up; it may
                have been carried out.
        """
        with self._lock:
            return statement(self._open())

    def run_until(self, statement: Callable[[db.Cursor], T], *, end: float) -> tuple[T, bool]:
        """Repeat a statement that is safe to repeat while the database is away.

        Args:
            end: monotonic seconds after which the last error is raised.

        Returns:
            Its value, and whether it was repeated: an earlier try may have been carried out.
        """
        pause, is_repeated = 0.05, False
        while True:
            try:
                return self.run(statement), is_repeated
            except BROKEN as error:
                if monotonic() + pause > end:
                    raise
                log.warning("statement is repeated", role=self._role, reason=str(error)[:200])
            is_repeated = True
            threading.Event().wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def raw(self) -> psycopg.Connection[Any]:
        """Give the open connection itself, to listen on."""
        with self._lock:
            self._open()
            assert self._connection is not None  # noqa: S101 - just opened
            return self._connection

    def close(self) -> None:
        """Close it; the next statement opens another."""
        with self._lock:
            connection, self._connection, self._cursor = self._connection, None, None
            if connection is not None:
                connection.close()

    def _open(self) -> psycopg.Cursor[Any]:
        if self._cursor is None or self._connection is None or self._connection.closed:
            self.close()
            self._connection = db.connect(
                self._role, statement_timeout_seconds=self._timeout, is_keyed=True
            )
            self._cursor = self._connection.cursor()
        return self._cursor
