"""What the sequencer still waits for, against a plain model of transactions and snapshots."""

from __future__ import annotations

import random

import pytest

from tasks_app.relay.horizon import Horizon, OpenIds


def ranges(horizon: Horizon) -> list[tuple[int, int]]:
    return [(one.low, one.high) for one in horizon.open]


def test_dense_ids_leave_nothing_open() -> None:
    horizon = Horizon().after([1, 2, 3], oldest_transaction=10)
    assert (horizon.last_sequence, horizon.seen_id, horizon.open) == (3, 3, ())


def test_ids_between_the_visible_ones_stay_open() -> None:
    horizon = Horizon().after([2, 5, 6, 9], oldest_transaction=10)
    assert ranges(horizon) == [(1, 1), (3, 4), (7, 8)]
    assert horizon.is_unmarked


def test_what_turns_up_late_is_taken_out_of_its_range() -> None:
    horizon = Horizon().after([10], oldest_transaction=10).marked(11)
    horizon = horizon.after([4, 5, 9, 12], oldest_transaction=10)
    assert ranges(horizon) == [(1, 3), (6, 8), (11, 11)]
    assert [one.mark for one in horizon.open] == [11, 11, None]
    assert (horizon.last_sequence, horizon.seen_id) == (5, 12)


def test_a_range_is_given_up_only_when_every_transaction_before_its_mark_is_over() -> None:
    horizon = Horizon(last_sequence=1, seen_id=9, open=(OpenIds(3, 4, 20),))
    assert ranges(horizon.after([], oldest_transaction=19)) == [(3, 4)]
    assert ranges(horizon.after([], oldest_transaction=20)) == []
    assert ranges(horizon.marked(99).after([], oldest_transaction=20)) == []


def test_a_range_without_a_mark_is_kept() -> None:
    horizon = Horizon(last_sequence=1, seen_id=9, open=(OpenIds(3, 4),))
    assert ranges(horizon.after([], oldest_transaction=10**9)) == [(3, 4)]


class Database:
    """A model of the database, and of the sequencer that reads it.

    Transactions draw ids, commit or roll back in any order.
    """

    def __init__(self, seed: int) -> None:
        self.committed: set[int] = set()
        self.given: list[int] = []
        self.horizon = Horizon()
        self._chance = random.Random(seed)
        self._next_id = self._next_transaction = 1
        self._running: dict[int, list[int]] = {}

    def step(self) -> None:
        """Do one thing of those that may happen."""
        choice = self._chance.random()
        if choice < 0.35:
            self._running[self._next_transaction] = []
            self._next_transaction += 1
        elif choice < 0.75 and self._running:
            self._draw_ids()
        elif choice < 0.85 and self._running:
            ids = self._running.pop(self._chance.choice(list(self._running)))
            self.committed.update(ids if self._chance.random() < 0.8 else [])
        else:
            self.look(most=self._chance.randint(1, 20))

    def _draw_ids(self) -> None:
        for _ in range(self._chance.randint(1, 5)):
            self._running[self._chance.choice(list(self._running))].append(self._next_id)
            self._next_id += 1

    def commit_all(self) -> None:
        """End every transaction."""
        self.committed.update(one for ids in self._running.values() for one in ids)
        self._running.clear()

    def look(self, *, most: int) -> None:
        """Read what is visible above the highest id seen, and in the open ranges below it."""
        if self.horizon.is_unmarked:
            self.horizon = self.horizon.marked(self._next_transaction)
            self._next_transaction += 1
        visible = sorted(self.committed)
        new = [one for one in visible if one > self.horizon.seen_id]
        late = [
            one
            for one in visible
            if any(where.low <= one <= where.high for where in self.horizon.open)
        ]
        found = late + new[:most]
        oldest = min(self._running, default=self._next_transaction)
        self.horizon = self.horizon.after(found, oldest_transaction=oldest)
        self.given += found


@pytest.mark.parametrize("seed", range(40))
def test_every_committed_id_is_given_once_whatever_the_order_of_commits(seed: int) -> None:
    database = Database(seed)
    for _ in range(560):
        database.step()
    database.commit_all()
    for _ in range(40):
        database.step()
    database.commit_all()
    for _ in range(200):
        database.look(most=20)
    assert sorted(database.given) == sorted(database.committed)
    assert len(set(database.given)) == len(database.given)
    assert database.horizon.last_sequence == len(database.given)
    assert database.horizon.open == ()
