"""What the clock is watched by; see `tasks_app.metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scheduler.selectors import check_beat
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
SOURCE: Final = MetricSource(
    name="beat",
    metrics=(BEATS, LATE, SCHEDULES, PUBLISHING),
    read="scheduler.measures.beat_samples",
)


def beat_samples() -> Iterator[Sample]:
    """Read whether a beat keeps time."""
    facts = check_beat().facts
    yield Sample(BEATS, facts["beats"])
    yield Sample(LATE, facts["late_seconds"])
    yield Sample(SCHEDULES, facts["schedules"], ("on",))
    yield Sample(SCHEDULES, facts["broken"], ("broken",))
    yield Sample(PUBLISHING, facts["publishing"])
