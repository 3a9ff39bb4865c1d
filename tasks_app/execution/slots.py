"""The slot table.

What each pool child runs, in memory that the worker's main process shares with its children.

Made before the fork. A child writes its own half of a slot (guarded by a sequence number that is
odd while it writes), the main process writes the other half: orders, each a single word that names
the run it is meant for, so that an order that comes too late for one run can never hit the next. No
locks: a killed child can leave none behind.
"""

from __future__ import annotations

import mmap
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from tasks_app.registry import MAX_BUNDLE

WORDS_PER_SLOT: Final = 16
HEADER_WORDS: Final = 16
MOST_MEMBERS: Final = MAX_BUNDLE
_READ_TRIES: Final = 100
_WORDS_PER_MEMBER: Final = 3
_MEMBER_WORDS: Final = 2 + MOST_MEMBERS * _WORDS_PER_MEMBER

_SEQUENCE, _PID, _ID_HIGH, _ID_LOW, _EPOCH, _CLAIMED_AT, _DEADLINE, _RUN = range(8)
_CANCEL_RUN, _INTERRUPT_RUN, _INTERRUPT_KIND, _TAKEN_RUN = range(8, 12)
_STOPPING: Final = 0


class Interrupt(IntEnum):
    """Why the main process interrupts a handler."""

    CANCEL = 1
    TIMEOUT = 2


@dataclass(frozen=True, slots=True)
class Running:
    """One attempt in one child.

    Attributes:
        index: number of the slot.
        run: counts the attempts of the slot, never repeats.
        claimed_at: monotonic seconds before the claim was sent.
        deadline: monotonic seconds at which the process timeout ends.
    """

    index: int
    pid: int
    run: int
    task_id: uuid.UUID
    epoch: int
    claimed_at: float
    deadline: float


class SlotTable:
    """Slots of a pool with at most `size` children."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._members_at = HEADER_WORDS + size * WORDS_PER_SLOT
        self._memory = mmap.mmap(-1, (self._members_at + size * _MEMBER_WORDS) * 8)
        self._words = memoryview(self._memory).cast("Q")
        self._floats = memoryview(self._memory).cast("B").cast("d")

    @property
    def is_stopping(self) -> bool:
        """Whether the worker takes no further attempts."""
        return bool(self._words[_STOPPING])

    def stop(self) -> None:
        """Tell the children to take no further attempts."""
        self._words[_STOPPING] = 1

    def _at(self, index: int, word: int) -> int:
        return HEADER_WORDS + index * WORDS_PER_SLOT + word

    def publish(self, index: int, pid: int, attempt: tuple[uuid.UUID, int, float, float]) -> int:
        """Say by the child that it runs an attempt `(task id, epoch, claimed_at, deadline)`.

        Gives the run's number.
        """
        task_id, epoch, claimed_at, deadline = attempt
        words, floats, base = self._words, self._floats, self._at(index, 0)
        run = words[base + _RUN] + 1
        words[base + _SEQUENCE] |= 1
        words[base + _PID] = pid
        words[base + _ID_HIGH] = task_id.int >> 64
        words[base + _ID_LOW] = task_id.int & 0xFFFF_FFFF_FFFF_FFFF
        words[base + _EPOCH] = epoch
        floats[base + _CLAIMED_AT] = claimed_at
        floats[base + _DEADLINE] = deadline
        words[base + _RUN] = run
        words[base + _SEQUENCE] += 1
        return run

    def extend(self, index: int, run: int, deadline: float) -> None:
        """Say by the child that a run's process timeout ends later (monotonic seconds)."""
        if self._words[self._at(index, _RUN)] == run:
            self._floats[self._at(index, _DEADLINE)] = deadline

    def clear(self, index: int, pid: int) -> None:
        """Say by the child that it runs nothing."""
        words, base = self._words, self._at(index, 0)
        words[base + _SEQUENCE] |= 1
        words[base + _PID] = pid
        words[base + _EPOCH] = 0
        words[base + _SEQUENCE] += 1

    def publish_members(self, index: int, members: Sequence[tuple[uuid.UUID, int]]) -> None:
        """Say by the child what it holds: at most `MOST_MEMBERS` task ids with their epochs."""
        words, base = self._words, self._members_at + index * _MEMBER_WORDS
        words[base] |= 1
        words[base + 1] = len(members)
        at = base + 2
        for task_id, epoch in members:
            number = task_id.int
            words[at], words[at + 1] = number >> 64, number & 0xFFFF_FFFF_FFFF_FFFF
            words[at + 2] = epoch
            at += _WORDS_PER_MEMBER
        words[base] += 1

    def members(self, index: int) -> list[tuple[uuid.UUID, int]]:
        """Give what a child said that it holds, the running and the ended ones included.

        Empty where it died while it wrote: what it had claimed is rescued then.
        """
        words, base = self._words, self._members_at + index * _MEMBER_WORDS
        for _ in range(_READ_TRIES):
            before = words[base]
            count = min(words[base + 1], MOST_MEMBERS)
            found = words[base + 2 : base + 2 + count * _WORDS_PER_MEMBER].tolist()
            if before % 2 == 0 and words[base] == before:
                return [
                    (uuid.UUID(int=found[at] << 64 | found[at + 1]), found[at + 2])
                    for at in range(0, len(found), _WORDS_PER_MEMBER)
                ]
        return []

    def read(self, index: int) -> Running | None:
        """Give what a child runs; None for nothing, or where it died while it wrote."""
        words, floats, base = self._words, self._floats, self._at(index, 0)
        for _ in range(_READ_TRIES):
            before = words[base + _SEQUENCE]
            fields = words[base + _PID : base + _RUN + 1].tolist()
            claimed_at, deadline = floats[base + _CLAIMED_AT], floats[base + _DEADLINE]
            if before % 2 == 0 and words[base + _SEQUENCE] == before:
                pid, high, low, epoch, _, _, run = fields
                if epoch == 0:
                    return None
                task_id = uuid.UUID(int=high << 64 | low)
                return Running(index, pid, run, task_id, epoch, claimed_at, deadline)
        return None

    def running(self) -> list[Running]:
        """Give what all children run."""
        return [one for index in range(self.size) if (one := self.read(index)) is not None]

    def is_current(self, running: Running) -> bool:
        """Whether the child still runs that attempt."""
        now = self.read(running.index)
        return now is not None and now.run == running.run

    def order_cancel(self, running: Running) -> None:
        """Raise the flag that `TaskContext.check_cancelled` looks at."""
        self._words[self._at(running.index, _CANCEL_RUN)] = running.run

    def order_interrupt(self, running: Running, kind: Interrupt) -> None:
        """Say why the child is about to be interrupted; the signal follows."""
        self._words[self._at(running.index, _INTERRUPT_KIND)] = kind
        self._words[self._at(running.index, _INTERRUPT_RUN)] = running.run

    def take(self, running: Running) -> None:
        """Say that the main process ends this attempt.

        So that the next child in the slot leaves it alone.
        """
        self._words[self._at(running.index, _TAKEN_RUN)] = running.run

    def is_taken(self, running: Running) -> bool:
        """Whether the main process ends this attempt."""
        return self._words[self._at(running.index, _TAKEN_RUN)] == running.run

    def is_cancelled(self, index: int, run: int) -> bool:
        """Whether the flag is up for a run."""
        return self._words[self._at(index, _CANCEL_RUN)] == run

    def interrupt_for(self, index: int, run: int) -> Interrupt | None:
        """Give why a run is interrupted, or None where the order was for another run."""
        if self._words[self._at(index, _INTERRUPT_RUN)] != run:
            return None
        return Interrupt(self._words[self._at(index, _INTERRUPT_KIND)])
