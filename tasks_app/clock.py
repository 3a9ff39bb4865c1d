"""The two clocks of the platform, and the SQL name of the first.

Decisions about tasks use the database clock inside the statement: `taskmill_now()` (see
    migrations/0001), which is
`now()` shifted by the session setting `taskmill.clock_offset`; drills and tests shift it,
production leaves it unset. Processes use only the monotonic clock, and only to stop trusting a
lease. Nothing reads the wall clock.
"""

from __future__ import annotations

import time

SQL_NOW = "taskmill_now()"


def monotonic() -> float:
    """Seconds on the machine's monotonic clock; comparable within one machine only."""
    return time.monotonic()
