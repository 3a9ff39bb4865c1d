"""Pure decisions about due instants: which are made up for, which may overlap, how they spread."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

MAX_CATCH_UP: Final = 100
"""Most instants that the policy `all` may make up for at a time."""


class Overlap(StrEnum):
    """What happens to an instant that is due while a task of an earlier one is unfinished."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    CANCEL_PREVIOUS = "cancel_previous"


class CatchUp(StrEnum):
    """Which instants are made up for that nobody could fire in time."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class Spread(StrEnum):
    """How a schedule moves within its window: not, always by the same time, or by chance."""

    NONE = "none"
    STABLE = "stable"
    JITTER = "jitter"


class Outcome(StrEnum):
    """What became of a due instant.

    `waiting` waits for the task before it (overlap `queue_one`), `publishing` for the broker (plain
    Celery tasks); both become one of the others.
    """

    FIRED = "fired"
    SKIPPED = "skipped"
    MISSED = "missed"
    WAITING = "waiting"
    PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to happen to a due instant.

    Attributes:
        nominal_at: the instant by the rule (aware).
        outcome: `fired` stands for "to be fired".
        reason: why not, for people.
        covers_until: for one row that stands for many: up to which instant, exclusive.
    """

    nominal_at: datetime
    outcome: Outcome
    reason: str = ""
    covers_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUpRule:
    """How late is late, and what happens then.

    Attributes:
        policy: which late instants are made up for.
        most: for `all`: how many at most, the latest.
        grace_seconds: an instant fired within this time is not late.
        expire_seconds: an instant later than this is never fired, or None.
    """

    policy: CatchUp
    most: int
    grace_seconds: float
    expire_seconds: float | None = None


def decide_catch_up(
    due: Sequence[datetime], *, now: datetime, rule: CatchUpRule, lag_seconds: float = 0.0
) -> list[Verdict]:
    """Decide which of the due instants are fired.

    Args:
        due: all instants that are due and undecided, in order.
        lag_seconds: how long after its instant this schedule fires by its spread.
    """
    late_from = now - timedelta(seconds=rule.grace_seconds + lag_seconds)
    late = [at for at in due if at < late_from]
    kept = {CatchUp.SKIP: 0, CatchUp.LAST: 1 if len(late) == len(due) else 0}.get(
        rule.policy, rule.most
    )
    made_up = set(late[-kept:] if kept else ())
    verdicts = []
    for at in due:
        reason = ""
        if rule.expire_seconds is not None and (now - at).total_seconds() > (
            rule.expire_seconds + lag_seconds
        ):
            reason = f"expired: {(now - at).total_seconds():.0f} s late"
        elif at < late_from and at not in made_up:
            reason = f"{(now - at).total_seconds():.0f} s late; catch-up {rule.policy.value}"
        outcome = Outcome.MISSED if reason else Outcome.FIRED
        verdicts.append(Verdict(nominal_at=at, outcome=outcome, reason=reason))
    return verdicts


def decide_overlap(
    verdicts: Sequence[Verdict], *, policy: Overlap, live: int, waiting: int
) -> list[Verdict]:
    """Decide which of the instants to be fired may be, beside the schedule's unfinished tasks.

    Args:
        verdicts: from `decide_catch_up`, in order.
        live: unfinished tasks of earlier instants.
        waiting: instants that wait for them.

    Returns:
        The same instants. Of `cancel_previous`, only the last of several is fired.
    """
    decided = []
    last = max((one.nominal_at for one in verdicts if one.outcome is Outcome.FIRED), default=None)
    for one in verdicts:
        found = one
        if one.outcome is Outcome.FIRED:
            found = _beside(one, policy, live=live, waiting=waiting, is_last=one.nominal_at == last)
            live += found.outcome is Outcome.FIRED
            waiting += found.outcome is Outcome.WAITING
        decided.append(found)
    return decided


def _beside(one: Verdict, policy: Overlap, *, live: int, waiting: int, is_last: bool) -> Verdict:
    match policy:
        case Overlap.SKIP if live or waiting:
            return _skipped(one, "the task before it is unfinished")
        case Overlap.QUEUE_ONE if waiting:
            return _skipped(one, "another instant waits already")
        case Overlap.QUEUE_ONE if live:
            return Verdict(
                nominal_at=one.nominal_at,
                outcome=Outcome.WAITING,
                reason="waits for the task before it",
            )
        case Overlap.CANCEL_PREVIOUS if not is_last:
            return _skipped(one, "a later instant takes its place")
        case _:
            return one


def _skipped(one: Verdict, reason: str) -> Verdict:
    return Verdict(nominal_at=one.nominal_at, outcome=Outcome.SKIPPED, reason=reason)


def lag_of(spread: Spread, window_seconds: int, *, key: str, nominal_at: datetime) -> timedelta:
    """Give how long after its instant a schedule fires; the same on every machine.

    Args:
        window_seconds: the lag is less than this.
        key: identifies the schedule.
    """
    if spread is Spread.NONE or window_seconds <= 0:
        return timedelta()
    text = key if spread is Spread.STABLE else f"{key} {nominal_at.timestamp()}"
    share = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
    return timedelta(seconds=round(share * window_seconds, 3))
