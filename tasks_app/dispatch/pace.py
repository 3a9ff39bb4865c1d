"""How fast a queue's tasks start while it has a backlog, measured by the dispatch loop itself.

The broker's window is full while there is a backlog, so what leaves makes up for what starts. Only
the time between two rounds that both had more than there was room for counts: without a backlog
the rate would be that of submissions. Read by `selectors.estimates`; nothing is decided by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tasks_app.db import Cursor

HALF_LIFE_SECONDS: Final = 30.0
"""Time with a backlog after which what was measured counts half."""

LEAST_SECONDS: Final = 1.0
"""Less of it says nothing yet."""

SAVE_SECONDS: Final = 2.0

_SAVE: Final = """
INSERT INTO taskmill_queue_pace (queue, starts_per_second, measured_at)
SELECT n.queue, n.pace, taskmill_now()
FROM unnest(%(queues)s::text[], %(paces)s::float8[]) AS n(queue, pace) ORDER BY n.queue
ON CONFLICT (queue) DO UPDATE
SET starts_per_second = excluded.starts_per_second, measured_at = excluded.measured_at
"""


@dataclass(slots=True)
class Pace:
    """The pace of one queue.

    Attributes:
        starts: counted in `seconds`, both fading.
        since: monotonic seconds of the last round, where that left a backlog.
        free_slots: starts that fill slots which were free when the backlog came; not counted.
    """

    starts: float = 0.0
    seconds: float = 0.0
    since: float | None = None
    free_slots: int = 0

    def learn(self, sent: int, *, slots: int, now: float, has_backlog: bool) -> bool:
        """Take a round in: what it sent, and whether it left more; say whether time was counted."""
        is_counted = self.since is not None
        if self.since is None:
            self.free_slots = slots
        else:
            elapsed = max(0.0, now - self.since)
            kept = 0.5 ** (elapsed / HALF_LIFE_SECONDS)
            filling = min(sent, self.free_slots)
            self.free_slots -= filling
            self.starts = self.starts * kept + sent - filling
            self.seconds = self.seconds * kept + elapsed
        self.since = now if has_backlog else None
        return is_counted

    def per_second(self) -> float | None:
        """Give the starts per second, None where too little was seen."""
        if self.seconds < LEAST_SECONDS or self.starts <= 0:
            return None
        return self.starts / self.seconds


class Paces:
    """The paces of all queues, kept by the leader of the dispatch loop and saved now and then."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}
        self._changed: set[str] = set()
        self._save_at = 0.0

    def learn(
        self, sent: Iterable[str], *, slots: Mapping[str, int], limited: set[str], now: float
    ) -> None:
        """Take a round in.

        Args:
            sent: the queue of each task that left.
            slots: of the queues that were looked at; another has no backlog, or may not start.
            limited: those of them that had more ready than there was room for.
            now: monotonic seconds.
        """
        counts = Counter(sent)
        for queue, number in slots.items():
            pace = self._paces.setdefault(queue, Pace())
            has_backlog = queue in limited
            if pace.learn(counts[queue], slots=number, now=now, has_backlog=has_backlog):
                self._changed.add(queue)
        for queue in self._paces.keys() - slots.keys():
            self._paces[queue].since = None

    def save(self, cursor: Cursor, *, now: float) -> None:
        """Write what changed, at most every `SAVE_SECONDS`."""
        if now < self._save_at or not self._changed:
            return
        known = {queue: self._paces[queue].per_second() for queue in self._changed}
        paces = {queue: pace for queue, pace in known.items() if pace is not None}
        if paces:
            cursor.execute(_SAVE, {"queues": list(paces), "paces": list(paces.values())})
        self._changed.clear()
        self._save_at = now + SAVE_SECONDS

    def rest(self) -> None:
        """Count no time until the next two rounds: another process led meanwhile."""
        for pace in self._paces.values():
            pace.since = None
