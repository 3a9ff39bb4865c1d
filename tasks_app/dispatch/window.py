"""How many tasks of a queue may wait in the broker: a pure decision from slots, outstanding hints
and elapsed time.

The backlog belongs in the database, where it can be reordered, cancelled and counted; the broker
holds just enough that no worker waits for the next tick. The window is what the workers take in
`HORIZON_SECONDS`, measured from how fast outstanding hints are claimed, and never less than twice
the slots.

Where tenants or fair keys share a queue, a hint waits behind those that are out. There the window
is narrow: a hint for each free slot, and what the workers take in `NARROW_HORIZON_SECONDS`.
"""

from __future__ import annotations

from math import ceil, exp

REST_LEAST_SECONDS = 0.1
REST_MOST_SECONDS = 2.0

HORIZON_SECONDS = 0.25
"""A round is late now and then (a checkpoint, a slow confirm): the window bridges it."""

NARROW_HORIZON_SECONDS = 0.025
"""So long a round may be late there before a worker runs dry: a look and a half."""

FAST_PER_SLOT = 45.0
FAST_HORIZON_SECONDS = 0.15
"""Where a slot takes more tasks a second than that, a look and a half of work is less than the
bundles that its workers want: they would run dry between two rounds, at a third of the rate. Who
comes to such a queue waits so much longer. Tasks of 30 ms lose nothing by a narrow window, and who
comes beside them waits 30 ms in place of 160 (`bench.fair`).
"""

DRY_PER_SLOT = 20.0
OFTEN_DRY = 0.5
"""The same, where nothing was outstanding at more than that share of the looks: a window that runs
dry measures itself and not the workers."""

MEAN_SECONDS = 1.0
"""A narrow window goes by the mean rate of about that time: a burst of claims does not widen it."""

LOOK_SOONEST_SECONDS = 0.015
LOOK_LATEST_SECONDS = 0.1
"""Bounds of the time between two looks while a backlog waits for room."""

BEGIN_SECONDS = 0.5
BEGIN_SIZE = 128
"""So long after a backlog has come, a window smaller than that is looked at as soon as may be: what
was measured of workers that have just begun says little of how fast they will be.
"""

HALF_LIFE_SECONDS = 2.0
"""A measured rate counts half after that time: the window grows at once and shrinks slowly."""


class Window:
    """The window of one queue. Times are monotonic seconds.

    Args:
        least: for a queue with any worker.
        most: whatever the rate.
    """

    def __init__(self, *, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._rate = 0.0
        self._mean_rate = 0.0
        self._dry = 0.0
        self._is_dry = False
        self._size = 0
        self._filled_to = 0
        self._seen_at: float | None = None
        self._begun_at = 0.0
        self._rest = 0.0
        self._closed_until = 0.0

    def bound(self, *, least: int, most: int) -> None:
        """Set other bounds, from the next `room` on; `most` wins."""
        self._least, self._most = least, most

    def is_faster(self, per_slot: float, *, slots: int) -> bool:
        """Say whether a slot takes more than so many tasks a second, by the mean rate."""
        return self._mean_rate > per_slot * slots

    def size(self, slots: int, free_slots: int | None = None) -> int:
        """Give how many hints may be outstanding: 0 where nobody serves the queue.

        Args:
            free_slots: with a number the window is narrow.
        """
        if slots <= 0:
            return 0
        if free_slots is not None:
            fast = DRY_PER_SLOT if self._dry > OFTEN_DRY else FAST_PER_SLOT
            is_fast = self.is_faster(fast, slots=slots)
            horizon = FAST_HORIZON_SECONDS if is_fast else NARROW_HORIZON_SECONDS
            narrow = ceil(self._mean_rate * horizon)
            return min(self._most, free_slots + max(1, narrow))
        bridge = int(self._rate * HORIZON_SECONDS)
        return min(self._most, max(self._least, 2 * slots, bridge + slots))

    def room(
        self, *, slots: int, outstanding: int, now: float, free_slots: int | None = None
    ) -> int:
        """Give how many more hints may leave now; learns the claim rate on the way."""
        self._learn(outstanding, now)
        self._size = self.size(slots, free_slots)
        if now < self._closed_until:
            return 0
        return max(0, self._size - outstanding)

    def look_in(self) -> float:
        """Give the seconds until the next look while a backlog waits for room: as long as the
        workers take for a quarter of the window, so that a round sends many hints and none is dry.
        Soon where that is not known: they have just begun, or nothing was outstanding any more.
        """
        if not self._rate or self._is_dry or self._begins:
            return LOOK_SOONEST_SECONDS
        quarter = self._size / (4 * self._rate)
        return min(max(quarter, LOOK_SOONEST_SECONDS), LOOK_LATEST_SECONDS)

    @property
    def _begins(self) -> bool:
        seen_at = self._seen_at or 0.0
        return self._size < BEGIN_SIZE and seen_at - self._begun_at < BEGIN_SECONDS

    def _learn(self, outstanding: int, now: float) -> None:
        if self._seen_at is None or now - self._seen_at > BEGIN_SECONDS:
            self._begun_at = now
        if self._seen_at is not None and now > self._seen_at:
            elapsed = now - self._seen_at
            measured = max(0, self._filled_to - outstanding) / elapsed
            faded = self._rate * 0.5 ** (elapsed / HALF_LIFE_SECONDS)
            self._rate = max(measured, faded)
            new = 1 - exp(-elapsed / MEAN_SECONDS)
            self._mean_rate += new * (measured - self._mean_rate)
            self._is_dry = self._filled_to > 0 and not outstanding
            self._dry += new * (self._is_dry - self._dry)
        self._seen_at = now
        self._filled_to = outstanding

    def sent(self, count: int) -> None:
        """Note the hints that left after the last `room`."""
        self._filled_to += count

    def answered(self, *, refused: int, now: float) -> float:
        """Note the broker's answer: while it refuses, the queue rests, longer each time.

        Returns:
            Seconds that the queue rests; 0 where nothing was refused.
        """
        if not refused:
            self._rest = 0.0
        else:
            self._filled_to -= refused
            self._rest = min(max(REST_LEAST_SECONDS, self._rest * 2), REST_MOST_SECONDS)
            self._closed_until = now + self._rest
        return self._rest
