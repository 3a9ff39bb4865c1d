"""What the sequencer has seen of the event ids, and which of them may still turn up.

Ids are drawn before their transaction commits, so events become visible out of their order. The
sequencer therefore keeps, below the highest id it has seen, the ranges of ids it has not: their
events are in open transactions, or were rolled back. Pure; `tasks_app.relay.loop` feeds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpenIds:
    """A range of ids, both ends included, none of whose events has been seen.

    Attributes:
        mark: a transaction id drawn after the range became open; every transaction that may hold
            one of its ids has a lower one. None until it is drawn.
    """

    low: int
    high: int
    mark: int | None = None

    def without(self, ids: Sequence[int]) -> Iterator[OpenIds]:
        """Give what is left of the range; `ids` are ascending and lie within it."""
        low = self.low
        for one in ids:
            if one > low:
                yield OpenIds(low, one - 1, self.mark)
            low = one + 1
        if low <= self.high:
            yield OpenIds(low, self.high, self.mark)


@dataclass(frozen=True, slots=True)
class Horizon:
    """Where the sequencer stands.

    Attributes:
        last_sequence: of the newest batch, 0 before the first.
        seen_id: the highest event id seen.
        open: ascending.
    """

    last_sequence: int = 0
    seen_id: int = 0
    open: tuple[OpenIds, ...] = ()

    @property
    def is_unmarked(self) -> bool:
        """Whether some open range still needs a mark."""
        return any(one.mark is None for one in self.open)

    def marked(self, mark: int) -> Horizon:
        """Give the open ranges that have none this mark."""
        found = tuple(
            one if one.mark is not None else OpenIds(one.low, one.high, mark) for one in self.open
        )
        return Horizon(self.last_sequence, self.seen_id, found)

    def after(self, ids: Sequence[int], *, oldest_transaction: int) -> Horizon:
        """Give the horizon after these events went into the feed.

        Args:
            ids: ascending; all events above `seen_id` and within the open ranges that the read saw
                (above `seen_id` perhaps only the lowest of them).
            oldest_transaction: the lowest id of a transaction in progress for that read; what was
                open before it is settled: nobody is left who could commit such an id.
        """
        rest: list[OpenIds] = []
        place = 0
        for one in self.open:
            start = place
            while place < len(ids) and ids[place] <= one.high:
                place += 1
            if one.mark is None or one.mark > oldest_transaction:
                rest.extend(one.without(ids[start:place]))
        new = ids[place:]
        if not new:
            return Horizon(self.last_sequence + len(ids), self.seen_id, tuple(rest))
        if new[-1] - self.seen_id != len(new):
            rest.extend(OpenIds(self.seen_id + 1, new[-1]).without(new))
        return Horizon(self.last_sequence + len(ids), new[-1], tuple(rest))
