"""A schedule's timing for people."""

from __future__ import annotations

from typing import Any

from scheduler.errors import InvalidRule
from scheduler.models import Schedule
from scheduler.services import Upcoming, upcoming_instants
from scheduler.writing import cron_text, interval_seconds


def timing_text(task: Any) -> str:
    """Give the rule of a periodic task in one line; reads nothing where it was selected too."""
    if task.crontab is not None:
        return f"{cron_text(task.crontab)} ({task.crontab.timezone})"
    if task.interval is not None:
        return f"every {interval_seconds(task.interval):g} s"
    if task.clocked is not None:
        return f"once at {task.clocked.clocked_time.isoformat()}"
    if task.solar is not None:
        return f"{task.solar.event} at {task.solar.latitude}, {task.solar.longitude}"
    return "nothing"


def upcoming_of(schedule: Schedule) -> list[Upcoming]:
    """Give the next five instants; none where its timing is not understood."""
    try:
        return upcoming_instants(schedule, count=5)
    except InvalidRule:
        return []
