"""Steps that fail: each is tried again later and later, and is told of where operators look.

A step that raises (a bug, a row that no statement can handle) must not starve those behind it.
"""

from __future__ import annotations

from typing import Final

import psycopg

from tasks_app.loops import Connection
from tasks_app.telemetry import logger

log = logger(__name__)

BACKOFF_LEAST_SECONDS: Final = 0.1
BACKOFF_MOST_SECONDS: Final = 60.0
"""Less than `selectors.platform.FAILING_SECONDS`, so that a broken step is seen all the time."""

REASON_CHARACTERS: Final = 200

_NOTE: Final = """
INSERT INTO taskmill_failed_step AS f (step, failures, failed_at, reason)
VALUES (%(step)s, 1, taskmill_now(), %(reason)s)
ON CONFLICT (step) DO UPDATE SET failures = f.failures + 1, failed_at = excluded.failed_at,
    reason = excluded.reason
"""


class FailingSteps:
    """The steps whose last run failed, by name, with how long each waits."""

    def __init__(self) -> None:
        self._waits: dict[str, float] = {}

    def failed(self, name: str, fault: Exception, connection: Connection) -> float:
        """Log a failure and keep it in the database; gives the seconds until the next try.

        The step's transaction is rolled back where it left one open.

        Raises:
            psycopg.Error: the connection is gone.
        """
        wait = min(BACKOFF_MOST_SECONDS, self._waits.get(name, BACKOFF_LEAST_SECONDS / 2) * 2)
        self._waits[name] = wait
        log.error("a step failed", step=name, retry_in_seconds=wait, exc_info=fault)
        connection.rollback()
        lines = str(fault).splitlines()
        reason = f"{type(fault).__name__}: {lines[0] if lines else ''}"[:REASON_CHARACTERS]
        try:
            connection.execute(_NOTE, {"step": name, "reason": reason.replace("\0", "")})
        except psycopg.Error as refused:
            if connection.closed:
                raise
            log.warning("a failure could not be kept", step=name, reason=str(refused)[:500])
        return wait

    def did(self, name: str) -> None:
        """Note that a step came to its end."""
        self._waits.pop(name, None)

    def forget(self) -> None:
        """Have every step begin anew."""
        self._waits.clear()
