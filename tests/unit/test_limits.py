"""Limits as pure decisions: rates read and kept, and a simulated dispatcher under any load."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tasks_app.limits import (
    Candidate,
    Need,
    Rate,
    Rule,
    decide,
    is_ahead,
    next_token_at,
    parse_rate,
    spend,
    tokens_out,
)


@pytest.mark.parametrize(
    ("text", "rate", "shown"),
    [
        ("10/min", Rate(10, 60), "10/min"),
        ("1000/s", Rate(1000, 1), "1000/s"),
        ("6000/minute", Rate(6000, 60), "6000/min"),
        ("100/15min", Rate(100, 900), "100/15min"),
        ("5/90s", Rate(5, 90), "5/90s"),
        ("1/24h", Rate(1, 86_400), "1/d"),
    ],
)
def test_a_rate_is_read_and_shown_in_its_short_form(text: str, rate: Rate, shown: str) -> None:
    assert parse_rate(text) == rate
    assert str(rate) == shown
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "10", "0/s", "10/", "10/week", "ten/min", "1/0s", "-1/s", "9/32d"]
)
def test_what_is_no_rate_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_a_clock_set_back_does_not_keep_tokens_out_for_longer_than_the_duration() -> None:
    rate = Rate(2, 60)
    spent = spend([], rate, 1000.0, 2)
    assert is_ahead(spent, 400.0)
    settled = spend(spent, rate, 400.0, 0)
    assert tokens_out(settled, rate, 459.0) == 2
    assert tokens_out(settled, rate, 461.0) == 0


def test_a_stored_name_of_a_rule_is_read_again_whatever_the_key() -> None:
    rule = Rule("slots", "key", 12, "a/b c/é")
    assert Rule.read(str(rule)) == rule


steps = st.lists(
    st.tuples(st.floats(0, 40, allow_nan=False), st.integers(0, 9)), min_size=1, max_size=60
)


@given(tasks=st.integers(1, 12), seconds=st.integers(1, 60), steps=steps)
@settings(deadline=None, max_examples=200)
def test_no_window_sees_more_than_the_rate_and_none_that_may_go_waits(
    tasks: int, seconds: int, steps: list[tuple[float, int]]
) -> None:
    rate, now, spent, went = Rate(tasks, seconds), 1000.0, [], []  # type: ignore[var-annotated]
    for wait, wanted in steps:
        now += wait
        free = tasks - tokens_out(spent, rate, now)
        at = next_token_at(spent, rate, now)
        assert (at == now) == (free > 0)
        assert tokens_out(spent, rate, at) < tasks
        spent = spend(spent, rate, now, min(free, wanted))
        went += [now] * min(free, wanted)
        assert free >= tasks - sum(one > now - seconds * 65 / 64 for one in went[: len(went)])
        assert len(spent) <= 65
    for start in went:
        assert sum(start <= one < start + seconds for one in went) <= tasks


RULES = ("slots/a", "slots/b", "rate/a", "rate/b")


@dataclass
class Simulation:
    """A queue of tasks with rules, handed out round by round as the dispatcher does."""

    most: dict[str, int]
    rate: Rate
    now: float = 0.0
    ready: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    running: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    spent: dict[str, Sequence[Sequence[float]]] = field(default_factory=lambda: defaultdict(list))
    went: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def taken(self) -> dict[str, int]:
        slots = Counter(rule for _, rules in self.running for rule in rules if "slots" in rule)
        tokens = {
            rule: tokens_out(self.spent[rule], self.rate, self.now)
            for rule in RULES
            if "rate" in rule
        }
        return {**slots, **tokens}

    def limit(self, rule: str) -> int:
        return self.rate.tasks if "rate" in rule else self.most[rule]

    def round(self, room: int) -> None:
        picked, before = self.ready[:room], self.taken()
        needs = [
            Candidate(tuple(Need(one, self.limit(one)) for one in rules)) for _, rules in picked
        ]
        verdicts = decide(needs, before)
        gone = [task for task, rule in zip(picked, verdicts, strict=True) if rule is None]
        self._check(picked, verdicts, gone, before)
        for _, rules in gone:
            for rule in rules:
                if "rate" in rule:
                    self.spent[rule] = spend(self.spent[rule], self.rate, self.now, 1)
                    self.went[rule].append(self.now)
        self.running += gone
        self.ready = [task for task in self.ready if task not in gone]

    def _check(
        self,
        picked: list[tuple[int, tuple[str, ...]]],
        verdicts: list[str | None],
        gone: list[tuple[int, tuple[str, ...]]],
        before: dict[str, int],
    ) -> None:
        used = Counter(before)
        for _, rules in gone:
            used.update(rules)
        assert all(
            used[rule] <= self.limit(rule) for rule in RULES if used[rule] > before.get(rule, 0)
        )
        for place, ((_, rules), refusing) in enumerate(zip(picked, verdicts, strict=True)):
            if refusing is None:
                continue
            assert refusing in rules
            assert used[refusing] == self.limit(refusing), "a free unit was left over"
            later = zip(picked[place:], verdicts[place:], strict=True)
            assert not [1 for (_, other), rule in later if rule is None and refusing in other]


needs = st.lists(st.sampled_from(RULES), unique=True, max_size=4).map(
    lambda one: tuple(sorted(one))
)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), needs),
        st.tuples(st.just("finish"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.floats(0, 30, allow_nan=False)),
        st.tuples(st.just("round"), st.integers(1, 8)),
    ),
    max_size=80,
)


@given(a=st.integers(1, 3), b=st.integers(1, 3), tasks=st.integers(1, 4), moves=moves)
@settings(deadline=None, max_examples=300)
def test_a_simulated_dispatcher_keeps_every_limit_takes_all_or_none_and_leaves_nothing_over(
    a: int, b: int, tasks: int, moves: list[tuple[str, object]]
) -> None:
    world = Simulation(most={"slots/a": a, "slots/b": b}, rate=Rate(tasks, 20))
    for number, (what, value) in enumerate(moves):
        match what, value:
            case "submit", tuple():
                world.ready.append((number, value))
            case "finish", int() if world.running:
                world.running.pop(value % len(world.running))
            case "wait", float():
                world.now += value
            case "round", int():
                world.round(value)
    for _ in range(400):
        if not world.ready and not world.running:
            break
        world.now += 21
        world.running.clear()
        world.round(8)
    assert not world.ready, "with slots and tokens coming back, everything goes"
    for rule, went in world.went.items():
        for start in went:
            assert sum(start <= one < start + 20 for one in went) <= tasks, rule
