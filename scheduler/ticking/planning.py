"""Pure: which instants of one schedule are to be decided now, how, and when it is due next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from scheduler.conf import SchedulerConf
from scheduler.decisions import MAX_CATCH_UP, CatchUp, Outcome, Verdict, decide_catch_up
from scheduler.loading import Loaded
from scheduler.models import Status
from scheduler.rules import Timetable


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a tick decides about one schedule, before it looks at unfinished tasks.

    Attributes:
        verdicts: one for each row to be written, in order.
        next_nominal_at: the first instant left undecided, or None where the schedule ends.
    """

    one: Loaded
    verdicts: list[Verdict]
    next_nominal_at: datetime | None

    @property
    def next_at(self) -> datetime | None:
        """When to look again."""
        if self.next_nominal_at is None:
            return None
        return self.next_nominal_at + self.one.lag(self.next_nominal_at)


def make_plan(one: Loaded, conf: SchedulerConf) -> Plan:
    """Decide about a schedule that is due.

    Raises:
        InvalidRule: its timing is not understood.
    """
    timetable = one.timetable()
    first: datetime = one.row["next_nominal_at"]
    if timetable.end is not None and first >= timetable.end:
        return Plan(one=one, verdicts=[], next_nominal_at=None)
    due, following = _due(one, timetable, first, conf.instants_most)
    is_cut = following is not None and following + one.lag(following) <= one.now
    if is_cut and due[-1] < one.now - timedelta(hours=conf.catch_up_hours):
        return _skip_ahead(one, timetable, first, conf)
    if one.row["one_off"]:
        due, following = due[:1], due[1] if len(due) > 1 else following
    late_from = one.now - timedelta(seconds=conf.grace_seconds)
    rule = one.catch_up(conf.grace_seconds)
    if one.row["status"] == Status.PAUSED:
        verdicts = [_paused(one, at) for at in due]
    elif is_cut and due[-1] < late_from:
        following, due = due[-MAX_CATCH_UP], due[:-MAX_CATCH_UP]
        verdicts = [_too_many(at, rule.policy) for at in due]
    else:
        lag = max((one.lag(at).total_seconds() for at in due), default=0.0)
        verdicts = decide_catch_up(due, now=one.now, rule=rule, lag_seconds=lag)
    return Plan(one=one, verdicts=verdicts, next_nominal_at=following)


def _due(
    one: Loaded, timetable: Timetable, first: datetime, most: int
) -> tuple[list[datetime], datetime | None]:
    """Give the due instants from `first` on, at most so many, and the one that follows them."""
    due = [first]
    for at in islice(timetable.after(first), most):
        if len(due) == most or at + one.lag(at) > one.now:
            return due, at
        due.append(at)
    return due, None


def _skip_ahead(one: Loaded, timetable: Timetable, first: datetime, conf: SchedulerConf) -> Plan:
    horizon = one.now - timedelta(hours=conf.catch_up_hours, microseconds=1)
    following = timetable.next(horizon)
    outcome, reason = Outcome.MISSED, f"older than {conf.catch_up_hours:g} h"
    if one.row["status"] == Status.PAUSED:
        outcome, reason = Outcome.SKIPPED, "paused"
    row = Verdict(nominal_at=first, outcome=outcome, reason=reason, covers_until=following)
    return Plan(one=one, verdicts=[row], next_nominal_at=following)


def _paused(one: Loaded, at: datetime) -> Verdict:
    reason = f"paused: {one.row['status_reason']}" if one.row["status_reason"] else "paused"
    return Verdict(nominal_at=at, outcome=Outcome.SKIPPED, reason=reason[:500])


def _too_many(at: datetime, policy: CatchUp) -> Verdict:
    reason = f"late; catch-up {policy.value}"
    return Verdict(nominal_at=at, outcome=Outcome.MISSED, reason=reason)
