"""When the dispatch loop looks for parked tasks whose rule has room again.

Often for the rules of what has ended, which costs little; and in a tour of all rules, which finds
the others (a rate that has tokens again, a limit that was raised, an attempt that ended without its
task), in a bounded share of the loop's time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.dispatch.backlog import is_any_blocked
from tasks_app.loops import Turn

LEAST_SECONDS = 0.02
SHARE = 5
"""The tour may take one part in so many of the loop's time and no more, while it finds something: a
tour of 10,000 keys of which each has tasks parked takes about two seconds of it."""

SHARE_OF_NOTHING = 20
"""The same after a tour that found nothing."""

LATE_COMMITS = timedelta(milliseconds=50)
"""An end is looked for so long after its own time, that of its statement: it commits later."""


class Unblocking:
    """The looks of one leader.

    Args:
        poll_seconds: between two looks while nothing is parked.
    """

    def __init__(self, *, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self.forget()

    def forget(self) -> None:
        """Begin anew: another leader may have been at work."""
        self.at = 0.0
        self._tour_at = 0.0
        self._place = transitions.START
        self._found = 0
        self._share = SHARE
        self._since: datetime | None = None

    def soon(self, now: float) -> None:
        """Look soon: something was parked."""
        self.at = now + LEAST_SECONDS

    def run(self, turn: Turn) -> int:
        """Let tasks go if it is time to look; gives how many."""
        started = monotonic()
        if started < self.at:
            return 0
        if not is_any_blocked(turn.connection.cursor()):
            self._since = None
            self.at = monotonic() + self._poll_seconds
            return 0
        with turn.connection.transaction():
            cursor = turn.connection.cursor()
            turn.leadership.fence(cursor)
            freed = self._freed(cursor)
            if started >= self._tour_at:
                freed += self._tour(cursor)
        self.at = monotonic() + LEAST_SECONDS
        return freed

    def _freed(self, cursor: Any) -> int:
        since = self._since or datetime.max.replace(tzinfo=UTC)
        freed, now = transitions.unblock_freed(cursor, since=since)
        self._since = now - LATE_COMMITS
        return freed

    def _tour(self, cursor: Any) -> int:
        started = monotonic()
        found = transitions.unblock(cursor, after=self._place)
        self._place = found.place
        self._found += found.count
        if found.count:
            self._share = SHARE
        if found.place == transitions.START:
            self._share = SHARE if self._found else SHARE_OF_NOTHING
            self._found = 0
        ended = monotonic()
        self._tour_at = ended + max(LEAST_SECONDS, self._share * (ended - started))
        return found.count
