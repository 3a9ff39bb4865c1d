"""What is promised of Taskmill's speed, as ratios within one run: against peers and against itself.

A floor must hold; a goal is what a change works towards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from bench.report import markdown, number
from bench.rounds import Figures


class Kind(Enum):
    """How two values are compared."""

    RATE = "x, higher is better"
    TIME = "x, lower is better"
    COST = "loss in percent"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a system: the keys of `rounds.Figures`."""

    system: str
    name: str


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise.

    Attributes:
        floor: a ratio, or the share that may be lost at most (-0.25 for a quarter).
    """

    title: str
    ours: Value
    peer: Value
    kind: Kind
    floor: float
    goal: float


_OURS = "taskmill"
GOALS = (
    Goal(
        "drain, echo, bulk lane / BullMQ at its best, one process",
        Value(_OURS, "drain"),
        Value("bullmq", "drain"),
        Kind.RATE,
        0.5,
        1.0,
    ),
    Goal(
        "drain, a message per task / Celery with Redis results",
        Value(_OURS, "single"),
        Value("celery-redis", "drain"),
        Kind.RATE,
        1.5,
        3.0,
    ),
    Goal(
        "submit in bulk / BullMQ's addBulk",
        Value(_OURS, "bulk"),
        Value("bullmq", "bulk"),
        Kind.RATE,
        0.7,
        1.3,
    ),
    Goal(
        "submit one by one over HTTP, 8 clients / DRF view that inserts a row, WSGI",
        Value(_OURS, "submit8"),
        Value("drf", "submit8"),
        Kind.RATE,
        2.0,
        4.0,
    ),
    *(
        Goal(
            f"idle, submit to result, {name} / Celery with Redis results",
            Value(_OURS, name),
            Value("celery-redis", name),
            Kind.TIME,
            1.5,
            1.0,
        )
        for name in ("p50", "p99")
    ),
    Goal(
        "drain of 100 KB payloads / BullMQ",
        Value(_OURS, "large"),
        Value("bullmq", "large"),
        Kind.RATE,
        1.0,
        2.0,
    ),
    Goal(
        "drain under three rules / without",
        Value(_OURS, "rules"),
        Value(_OURS, "drain"),
        Kind.COST,
        -0.25,
        -0.10,
    ),
    Goal(
        "drain beside live subscribers / none",
        Value(_OURS, "subscribers"),
        Value(_OURS, "drain"),
        Kind.COST,
        -0.20,
        -0.10,
    ),
    Goal(
        "drain beside many waiting and finished tasks / in an empty database",
        Value("taskmill-grown", "drain"),
        Value(_OURS, "drain"),
        Kind.COST,
        -0.20,
        -0.10,
    ),
)


def reached(goal: Goal, ratio: float) -> str:
    """Say how far a ratio gets: `goal`, `floor` or `no`."""
    value = ratio - 1 if goal.kind is Kind.COST else ratio
    is_less_better = goal.kind is Kind.TIME
    for word, bound in (("goal", goal.goal), ("floor", goal.floor)):
        if value <= bound if is_less_better else value >= bound:
            return word
    return "no"


def goal_rows(found: Sequence[Figures]) -> list[list[str]]:
    """Give a row for each promise whose two values were taken, with a head."""
    by_key = {one.key: one.values for one in found}
    rows = [["figure", "ours", "peer", "ratio", "floor", "goal", "reached"]]
    for goal in GOALS:
        ours, peer = _values(by_key, goal.ours), _values(by_key, goal.peer)
        if ours and peer:
            middle = median(ours) / median(peer)
            shown = [number(median(ours)), number(median(peer)), _ratio(goal, ours, peer)]
            bounds = [_bound(goal, goal.floor), _bound(goal, goal.goal)]
            rows.append([goal.title, *shown, *bounds, reached(goal, middle)])
    return rows


def goal_table(found: Sequence[Figures]) -> str:
    """Give the promises as Markdown."""
    return markdown(goal_rows(found))


def _values(by_key: Mapping[str, Mapping[str, list[float]]], value: Value) -> list[float]:
    return by_key.get(value.system, {}).get(value.name, [])


def _ratio(goal: Goal, ours: Sequence[float], peer: Sequence[float]) -> str:
    """Give the ratio of the medians, and those of the single rounds beside it."""
    rounds = [a / b for a, b in zip(ours, peer, strict=False)]
    shown = _bound(goal, median(ours) / median(peer), is_ratio=True)
    if len(rounds) < 2:
        return shown
    least, most = (_bound(goal, one, is_ratio=True) for one in (min(rounds), max(rounds)))
    return f"{shown} ({least} to {most})"


def _bound(goal: Goal, value: float, *, is_ratio: bool = False) -> str:
    if goal.kind is Kind.COST:
        return f"{(value - 1 if is_ratio else value):+.0%}"
    return f"{value:.2f}x"
