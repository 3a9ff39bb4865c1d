"""What the clock is watched by; see `tasks_app.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scheduler.selectors import LATELY_MINUTES, LATELY_MOST, check_beat, firings_lately
from tasks_app.platform import Metric, MetricSource, Sample

BEATS: Final = Metric(name="taskmill_beats", doc="Beats that were seen lately.")
LATE: Final = Metric(
    name="taskmill_schedule_late_seconds",
    doc="How long the most overdue schedule has been due; 0 where none is.",
)
SCHEDULES: Final = Metric(
    name="taskmill_schedules",
    doc="Schedules that are `on` the clock, and `broken` ones that cannot fire.",
    labels=("status",),
)
PUBLISHING: Final = Metric(
    name="taskmill_firings_publishing", doc="Fired Celery tasks that wait for the broker."
)
FIRINGS: Final = Metric(
    name="taskmill_firings",
    doc=f"Due instants recorded within {LATELY_MINUTES} minutes, by what became of them: `fired`, "
    f"`skipped`, `missed`; the newest {LATELY_MOST:,} are counted.",
    labels=("outcome",),
)
FIRED_LATE: Final = Metric(
    name="taskmill_firing_late_seconds",
    doc="How long after its instant (spread included) the latest of the fired ones was fired.",
)
SOURCE: Final = MetricSource(
    name="beat",
    metrics=(BEATS, LATE, SCHEDULES, PUBLISHING, FIRINGS, FIRED_LATE),
    read="scheduler.measures.beat_samples",
)


def beat_samples() -> Iterator[Sample]:
    """Read whether a beat keeps time, and what became of what was due lately."""
    facts = check_beat().facts
    yield Sample(BEATS, facts["beats"])
    yield Sample(LATE, facts["late_seconds"])
    yield Sample(SCHEDULES, facts["schedules"], ("on",))
    yield Sample(SCHEDULES, facts["broken"], ("broken",))
    yield Sample(PUBLISHING, facts["publishing"])
    lately = firings_lately()
    for outcome in ("fired", "skipped", "missed"):
        yield Sample(FIRINGS, lately.get(outcome, (0, 0.0))[0], (outcome,))
    yield Sample(FIRED_LATE, lately.get("fired", (0, 0.0))[1])
