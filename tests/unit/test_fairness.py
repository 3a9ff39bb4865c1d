"""Fair shares as a pure decision: by weight, whatever tasks last; nobody starves or hoards."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tasks_app.limits import FairShares, Flow, Ledger, Party
from tasks_app.limits.fairness import AHEAD_SECONDS

WEIGHTS = st.dictionaries(st.integers(1, 20), st.integers(1, 5), min_size=2, max_size=8)


STEP = 0.25


class Slots:
    """Slots that run the tasks of parties which never run out of them, looked at in steps.

    Args:
        lasting: steps that a task of each party takes.
    """

    def __init__(self, slots: int, lasting: Mapping[int, int]) -> None:
        self.ledger: Ledger[int] = Ledger()
        self.free = slots
        self.lasting = lasting
        self.running: list[tuple[int, int]] = []
        self.had: dict[int, float] = defaultdict(float)
        self.starts: Counter[int] = Counter()
        self.longest_wait: Counter[int] = Counter()
        self.waits: Counter[int] = Counter()

    def run(self, weights: Mapping[int, int], *, seconds: int) -> None:
        """Let time pass while those with a weight wait."""
        for _ in range(int(seconds / STEP)):
            self.step(weights)

    def step(self, weights: Mapping[int, int]) -> None:
        """Hand the free slots out, and let a step pass."""
        out = Counter(name for name, _ in self.running)
        parties = {name: Party(weight=weight, out=out[name]) for name, weight in weights.items()}
        parties |= {
            name: Party(out=count, is_waiting=False)
            for name, count in out.items()
            if name not in weights
        }
        granted = self.ledger.share(self.free, parties)
        assert len(granted) == (self.free if weights else 0), "a slot stays free"
        assert set(granted) <= set(weights)
        self.ledger.charge(Counter(granted), parties)
        self.free -= len(granted)
        for name in granted:
            self.starts[name] += 1
            self.waits[name] = 0
            self.running.append((name, self.lasting[name]))
        out = Counter(name for name, _ in self.running)
        self.ledger.pass_time({name: replace(parties[name], out=out[name]) for name in out}, STEP)
        for name in set(weights) - set(granted):
            self.waits[name] += 1
            self.longest_wait[name] = max(self.longest_wait[name], self.waits[name])
        for name, _ in self.running:
            self.had[name] += STEP
        left = [(name, steps - 1) for name, steps in self.running if steps > 1]
        self.free += len(self.running) - len(left)
        self.running = left


@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(WEIGHTS, st.integers(1, 20))
def test_shares_go_by_weight_and_differ_by_no_more_however_long_it_takes(
    weights: dict[int, int], slots: int
) -> None:
    world = Slots(slots, dict.fromkeys(weights, 4))
    for _ in range(3):
        world.run(weights, seconds=100)
        had = [world.had[name] / weight for name, weight in weights.items()]
        assert max(had) - min(had) <= AHEAD_SECONDS


@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(WEIGHTS, st.integers(1, 20))
def test_nobody_starves(weights: dict[int, int], slots: int) -> None:
    world = Slots(slots, dict.fromkeys(weights, 4))
    world.run(weights, seconds=200)
    total = sum(weights.values())
    for name, weight in weights.items():
        fair_seconds = total / (weight * slots)
        assert world.longest_wait[name] * STEP <= 2 * fair_seconds + 2


@settings(max_examples=12, deadline=None, phases=(Phase.generate,))
@given(st.integers(2, 12), st.integers(8, 80), st.integers(4, 8))
def test_long_tasks_get_no_more_of_the_slots_than_short_ones(
    slots: int, long: int, short: int
) -> None:
    world = Slots(slots, {1: long, 2: short})
    world.run({1: 1, 2: 1}, seconds=400)
    assert abs(world.had[1] - world.had[2]) <= AHEAD_SECONDS + slots * long * STEP
    assert world.starts[2] >= world.starts[1]


def test_who_was_away_is_preferred_for_a_while_and_shuts_nobody_out() -> None:
    world = Slots(8, {1: 4, 2: 4})
    world.run({1: 1}, seconds=300)
    world.had.clear()
    world.run({1: 1, 2: 1}, seconds=5)
    assert world.had[2] > 3 * world.had[1] > 0
    world.run({1: 1, 2: 1}, seconds=600)
    assert AHEAD_SECONDS < world.had[2] - world.had[1] < 8 * AHEAD_SECONDS
    world.had.clear()
    world.run({1: 1, 2: 1}, seconds=600)
    assert abs(world.had[1] - world.had[2]) <= AHEAD_SECONDS


def test_who_had_one_task_out_for_long_is_not_owed_all_that_others_had_meanwhile() -> None:
    world = Slots(8, {1: 4, 2: 4})
    world.running.append((2, 10**6))
    world.free -= 1
    world.run({1: 1}, seconds=1000)
    world.had.clear()
    world.run({1: 1, 2: 1}, seconds=300)
    assert world.had[2] - world.had[1] < 8 * AHEAD_SECONDS


def test_without_accounts_shares_begin_with_what_is_out() -> None:
    parties = {"noisy": Party(out=8), "quiet": Party()}
    granted = Ledger[str]().share(2, parties)
    assert granted == ["quiet", "quiet"]
    assert Ledger[str]().share(4, {"a": Party(), "b": Party()}) == [*"abab"]


def test_a_tenant_gains_nothing_by_naming_more_keys() -> None:
    shares = FairShares()
    parties = {Flow(1, str(key)): Party(weight=1) for key in range(50)} | {Flow(2, ""): Party()}
    granted = shares.share(100, parties)
    assert Counter(flow.tenant_id for flow in granted) == {1: 50, 2: 50}
    assert {flow for flow in granted if flow.tenant_id == 1} == parties.keys() - {Flow(2, "")}


def test_keys_of_a_tenant_share_evenly_though_tenants_do_not() -> None:
    parties = {Flow(1, "a"): Party(weight=3), Flow(1, "b"): Party(weight=3), Flow(2, "c"): Party()}
    granted = FairShares().share(8, parties)
    assert Counter(granted) == {Flow(1, "a"): 3, Flow(1, "b"): 3, Flow(2, "c"): 2}


def test_nobody_waits_nobody_is_granted() -> None:
    assert Ledger[int]().share(3, {1: Party(out=2, is_waiting=False)}) == []
    assert Ledger[int]().share(0, {1: Party()}) == []
    assert FairShares().share(3, {}) == []


def test_accounts_of_those_who_left_are_dropped_once_they_say_nothing_more() -> None:
    ledger: Ledger[int] = Ledger()
    for name in range(3000):
        parties = {name: Party(out=1), -1: Party(out=5)}
        ledger.share(1, parties)
        ledger.pass_time(parties, 5.0)
    assert len(ledger._had) < 200


@given(WEIGHTS, st.integers(0, 40), st.integers(1, 6), st.randoms(use_true_random=False))
def test_nobody_is_granted_more_than_may_be_out(
    weights: dict[int, int], room: int, most: int, random: Random
) -> None:
    parties = {
        name: Party(weight=weight, out=random.randrange(8), is_waiting=random.random() < 0.8)
        for name, weight in weights.items()
    }
    granted = Counter(Ledger[int]().share(room, parties, most=most))
    places = {name: most - one.out for name, one in parties.items() if one.is_waiting}
    assert all(count <= places[name] for name, count in granted.items())
    assert granted.total() == min(room, sum(max(0, number) for number in places.values()))
