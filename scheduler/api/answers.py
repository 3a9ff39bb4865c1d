"""The shapes in which schedules are shown, and what makes them out of rows."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field

from scheduler.api.shapes import (
    CatchUpName,
    OutcomeName,
    OverlapName,
    SpreadName,
    StatusName,
)
from scheduler.decisions import Outcome
from scheduler.models import Firing, Origin, Schedule, Status
from scheduler.services import Upcoming
from scheduler.sun import SolarEvent
from scheduler.writing import cron_text, interval_seconds
from scheduler.zones import find_zone

PageUrl = Annotated[str | None, Field(description="Address of that page; null without one.")]
_SAME: Final = (
    *("id", "key", "origin", "overlap", "catch_up", "catch_up_most", "spread", "spread_seconds"),
    *("expire_seconds", "pause_after_failures", "status", "status_at", "next_nominal_at"),
    *("next_at", "last_nominal_at", "last_fired_at", "last_task_id", "fired_count"),
    *("skipped_count", "missed_count", "failures_in_row", "created_at", "updated_at"),
)


class SolarPlace(BaseModel):
    """An event of the sun at a place."""

    event: SolarEvent
    latitude: float
    longitude: float


class ScheduleShown(BaseModel):
    """A schedule, with where it stands."""

    id: uuid.UUID
    key: str
    type: str = Field(description="Type of its tasks.")
    description: str
    origin: Literal["api", "code", "tables"] = Field(description="Who declared it.")
    read_only: bool = Field(description="Declared in code: pause, resume and run it only.")
    cron: str | None
    timezone: str
    interval_seconds: float | None
    once_at: AwareDatetime | None
    solar: SolarPlace | None
    start_at: AwareDatetime | None
    end_at: AwareDatetime | None
    payload: Any
    options: dict[str, Any] = Field(description="Submission options of its tasks.")
    overlap: OverlapName
    catch_up: CatchUpName
    catch_up_most: int
    spread: SpreadName
    spread_seconds: int
    expire_seconds: int | None
    pause_after_failures: int | None
    status: StatusName
    status_reason: str | None
    status_by: str | None
    status_at: AwareDatetime | None
    next_nominal_at: AwareDatetime | None = Field(description="The next instant by the rule.")
    next_at: AwareDatetime | None = Field(description="The same with the spread.")
    last_nominal_at: AwareDatetime | None
    last_outcome: OutcomeName | None
    last_fired_at: AwareDatetime | None
    last_task_id: uuid.UUID | None
    fired_count: int
    skipped_count: int
    missed_count: int
    failures_in_row: int
    created_at: AwareDatetime
    created_by: str
    updated_at: AwareDatetime


class ScheduleList(BaseModel):
    """A page of schedules in the order of their keys."""

    results: list[ScheduleShown]
    next: PageUrl
    previous: PageUrl


class FiringShown(BaseModel):
    """One due instant, and what became of it."""

    nominal_at: AwareDatetime = Field(description="The instant by the rule.")
    covers_until: AwareDatetime | None = Field(
        description="The row stands for all instants before this one."
    )
    outcome: OutcomeName
    reason: str | None
    manual: bool = Field(description="Run by somebody, not by the rule.")
    actor: str | None
    task_id: uuid.UUID | None
    task_state: str | None = Field(description="How its task ended; null while unfinished.")
    recorded_at: AwareDatetime
    fired_at: AwareDatetime | None


class FiringList(BaseModel):
    """A page of due instants, newest first."""

    results: list[FiringShown]
    next: PageUrl
    previous: PageUrl


class UpcomingShown(BaseModel):
    """An instant to come."""

    at: AwareDatetime
    local: str = Field(description="What clocks of the time zone show, with their offset.")
    note: str | None = Field(description="What a jump of the clocks does to it.")


class PreviewList(BaseModel):
    """The next instants in order; fewer than asked for where nothing more is due."""

    results: list[UpcomingShown]


class StartedTask(BaseModel):
    """The task that was started."""

    task_id: uuid.UUID


def schedule_object(row: Schedule) -> dict[str, Any]:
    """Give a schedule as `ScheduleShown`; reads nothing where its timing was selected too."""
    task = row.periodic_task
    return {name: getattr(row, name) for name in _SAME} | {
        "type": task.task,
        "description": task.description,
        "read_only": row.origin == Origin.CODE and row.status != Status.RETIRED,
        **_timing(task),
        "payload": _payload(task),
        "options": ({"queue": task.queue} if task.queue else {}) | row.options,
        "status_reason": row.status_reason or None,
        "status_by": row.status_by or None,
        "last_outcome": row.last_outcome or None,
        "created_by": row.created_by,
    }


def _timing(task: Any) -> dict[str, Any]:
    cron, interval, sun = task.crontab, task.interval, task.solar
    place = ("event", "latitude", "longitude")
    return {
        "cron": cron and cron_text(cron),
        "timezone": str(cron.timezone) if cron else "UTC",
        "interval_seconds": interval and interval_seconds(interval),
        "once_at": task.clocked and task.clocked.clocked_time,
        "solar": sun and dict(zip(place, (sun.event, *_degrees(sun)), strict=True)),
        "start_at": task.start_time,
        "end_at": task.expires,
    }


def _degrees(sun: Any) -> tuple[float, float]:
    return float(sun.latitude), float(sun.longitude)


def _payload(task: Any) -> Any:
    """Give the payload; None where somebody wrote what is no JSON into the tables."""
    try:
        args, kwargs = json.loads(task.args or "[]"), json.loads(task.kwargs or "{}")
    except ValueError:
        return None
    return args[0] if isinstance(args, list) and len(args) == 1 and not kwargs else kwargs


def firing_object(row: Firing) -> dict[str, Any]:
    """Give a due instant as `FiringShown`."""
    same = ("nominal_at", "covers_until", "outcome", "task_id", "recorded_at", "fired_at")
    return {name: getattr(row, name) for name in same} | {
        "reason": row.reason or None,
        "manual": row.is_manual,
        "actor": row.actor or None,
        "task_state": row.task_state or None,
    }


def upcoming_object(one: Upcoming, timezone: str) -> dict[str, Any]:
    """Give an instant to come as `UpcomingShown`."""
    local = one.at.astimezone(find_zone(timezone)).isoformat()
    return {"at": one.at, "local": local, "note": one.note or None}


OUTCOMES: Final = [one.value for one in Outcome]
