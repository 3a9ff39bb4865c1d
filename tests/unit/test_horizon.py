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


@pytest.mark.parametrize("seed", range(40))
def test_every_committed_id_is_given_once_whatever_the_order_of_commits(seed: int) -> None:
    """A model of the database: transactions draw ids, commit or roll back in any order."""
    chance = random.Random(seed)
    next_id = next_transaction = 1
    running: dict[int, list[int]] = {}
    committed: set[int] = set()
    given: list[int] = []
    horizon = Horizon()
    for step in range(600):
        choice = chance.random()
        if choice < 0.35:
            running[next_transaction] = []
            next_transaction += 1
        elif choice < 0.75 and running:
            for _ in range(chance.randint(1, 5)):
                running[chance.choice(list(running))].append(next_id)
                next_id += 1
        elif choice < 0.85 and running:
            ids = running.pop(chance.choice(list(running)))
            committed.update(ids if chance.random() < 0.8 else [])
        else:
            if horizon.is_unmarked:
                horizon = horizon.marked(next_transaction)
                next_transaction += 1
            new = sorted(one for one in committed if one > horizon.seen_id)
            late = [
                one
                for one in sorted(committed)
                for where in horizon.open
                if where.low <= one <= where.high
            ]
            found = late + new[: chance.randint(1, 20)]
            oldest = min(running, default=next_transaction)
            horizon = horizon.after(found, oldest_transaction=oldest)
            given += found
        if step == 560:
            for ids in running.values():
                committed.update(ids)
            running.clear()
    for _ in range(200):
        new = sorted(one for one in committed if one > horizon.seen_id)[:20]
        late = [
            one
            for one in sorted(committed)
            for where in horizon.open
            if where.low <= one <= where.high
        ]
        horizon = horizon.marked(next_transaction).after(
            late + new, oldest_transaction=next_transaction
        )
        given += late + new
    assert sorted(given) == sorted(committed)
    assert len(set(given)) == len(given)
    assert horizon.last_sequence == len(given)
    assert horizon.open == ()
