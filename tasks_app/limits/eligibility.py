"""Which of the ready tasks of a queue may go: one pass in order, all rules of a task or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """One unit of a rule that a task takes when it goes.

    Attributes:
        rule: name of the rule; see `rules.Rule`.
        most: units that may be taken at a time, as far as this task is concerned.
    """

    rule: str
    most: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A ready task with what it needs; the need that is named first is blamed first."""

    needs: tuple[Need, ...]


def decide(candidates: Sequence[Candidate], taken: Mapping[str, int]) -> list[str | None]:
    """Say for each candidate, in order, None ("it goes") or the rule that refuses it.

    A refused one takes nothing of its other rules. Nobody who comes later passes it at the rule
    that refused it, be its own limit of that rule larger.

    Args:
        candidates: in the order in which they are to go.
        taken: units in use by rule; a rule that is missing has none in use.
    """
    used = dict(taken)
    closed: set[str] = set()
    verdicts: list[str | None] = []
    for candidate in candidates:
        refusing = next(
            (
                need.rule
                for need in candidate.needs
                if need.rule in closed or used.get(need.rule, 0) >= need.most
            ),
            None,
        )
        if refusing is None:
            for need in candidate.needs:
                used[need.rule] = used.get(need.rule, 0) + 1
        else:
            closed.add(refusing)
        verdicts.append(refusing)
    return verdicts
