"""When the dispatch loop looks for parked tasks whose rule has room again.

Often for the rules of what has ended and of limits that were changed or lifted, which costs little;
and in a tour of all rules, which finds the others (an attempt that ended without its task), in a
bounded share of the loop's time. Looks that find nothing follow ever more slowly, until a bell
rings or a rule is due: who frees slots or changes a limit rings, the next token of a rate is
foreseen, and a rule that has room for more than a look lets go is looked at again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.dispatch.backlog import is_any_blocked
from tasks_app.loops import Turn

LEAST_SECONDS = 0.02
"""Looks do not follow faster, and so they begin again after a bell."""

SHARE = 5
"""The tour may take one part in so many of the loop's time and no more, while it finds something: a
tour of 10,000 keys of which each has tasks parked takes about two seconds of it."""

SHARE_OF_NOTHING = 20
"""The same after a tour that found nothing."""

LATE_COMMITS = timedelta(milliseconds=50)
"""An end is looked for so long after its own time, that of its statement: it commits later."""

MOST_AWAITED = 1000
"""Rules that are looked at again at their moment; the tour finds what others have room for."""

JUST_AFTER_SECONDS = 0.001
NEVER = datetime.max.replace(tzinfo=UTC)


class Unblocking:
    """The looks of one leader.

    Args:
        poll_seconds: between two looks while nothing is parked; the most while something is.

    Attributes:
        at: monotonic seconds of the next look.
    """

    def __init__(self, *, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self.forget()

    def forget(self) -> None:
        """Begin anew: another leader may have been at work."""
        self.at = 0.0
        self._is_any = True
        self._rest = LEAST_SECONDS
        self._looked_at = -inf
        self._tour_at = 0.0
        self._tour_soonest = 0.0
        self._place = transitions.START
        self._found = 0
        self._share = SHARE
        self._since: datetime | None = None
        self._again_at: dict[str, float] = {}

    def soon(self, now: float) -> None:
        """Look soon: something was parked."""
        self._is_any = True
        self._hurry(now)
        self.at = now + LEAST_SECONDS

    def _rung(self, now: float) -> None:
        if self._is_any:  # a slot may be free, or a limit another
            self._hurry(now)
            self.at = min(self.at, max(now, self._looked_at + LEAST_SECONDS))

    def _hurry(self, now: float) -> None:
        self._rest = LEAST_SECONDS
        self._hurry_tour(now)

    def _hurry_tour(self, now: float) -> None:
        self._tour_at = min(self._tour_at, max(now, self._tour_soonest))

    def run(self, turn: Turn) -> int:
        """Let tasks go if it is time to look; gives how many."""
        started = monotonic()
        if turn.is_rung:
            self._rung(started)
        if started < self.at:
            return 0
        self._looked_at = started
        self._is_any = is_any_blocked(turn.connection.cursor())
        if not self._is_any:
            self._since = NEVER
            self._again_at.clear()
            self.at = monotonic() + self._poll_seconds
            return 0
        with turn.connection.transaction():
            cursor = turn.connection.cursor()
            turn.leadership.fence(cursor)
            freed = self._freed(cursor, started)
            if started >= self._tour_at:
                freed += self._tour(cursor)
        self._plan(freed)
        return freed

    def _plan(self, freed: int) -> None:
        """Say when to look next."""
        now = monotonic()
        self._rest = LEAST_SECONDS if freed else min(2 * self._rest, self._poll_seconds)
        due = min(self._again_at.values(), default=inf)
        self.at = max(now + LEAST_SECONDS, min(now + self._rest, self._tour_at))
        self.at = max(now + JUST_AFTER_SECONDS, min(self.at, due))

    def _freed(self, cursor: Any, now: float) -> int:
        due = [rule for rule, at in self._again_at.items() if at <= now]
        for rule in due:
            del self._again_at[rule]
        found = transitions.unblock_freed(cursor, since=self._since, again=due)
        assert found.now is not None  # noqa: S101 - it says so
        self._since = found.now - LATE_COMMITS
        self._await(found)
        if due and not found.count:  # perhaps the tasks of another queue may go
            self._hurry_tour(now)
        return found.count

    def _await(self, found: transitions.Unblocked) -> None:
        now, again = monotonic(), LEAST_SECONDS if found.count else self._rest
        for rule, seconds in found.again_in.items():
            if rule in self._again_at or len(self._again_at) < MOST_AWAITED:
                self._again_at[rule] = now + (seconds + JUST_AFTER_SECONDS if seconds else again)

    def _tour(self, cursor: Any) -> int:
        started = monotonic()
        found = transitions.unblock(cursor, after=self._place)
        self._place = found.place
        self._found += found.count
        self._await(found)
        if found.count:
            self._share = SHARE
        is_idle = False
        if found.place == transitions.START:
            is_idle = not self._found
            self._share = SHARE_OF_NOTHING if is_idle else SHARE
            self._found = 0
        ended = monotonic()
        self._tour_soonest = ended + max(LEAST_SECONDS, self._share * (ended - started))
        rested = ended + self._rest if is_idle else ended
        self._tour_at = max(self._tour_soonest, rested)
        return found.count
