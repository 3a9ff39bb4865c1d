"""Reading schedules, their firings and the beats."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import Q, QuerySet

from scheduler.errors import ScheduleNotFound
from scheduler.models import Firing, Schedule
from tasks_app.db import rows_as_dicts

SILENT_SECONDS: Final = 15.0
LATE_SECONDS: Final = 30.0
MOST_ROWS: Final = 201


def schedules_of(*, tenant_id: int) -> QuerySet[Schedule]:
    """Give a tenant's schedules in the order of their keys, with what their pages show."""
    return (
        Schedule.objects.filter(tenant_id=tenant_id)
        .select_related(
            "periodic_task__crontab",
            "periodic_task__interval",
            "periodic_task__clocked",
            "periodic_task__solar",
        )
        .order_by("key")
    )


def list_schedules(
    *,
    tenant_id: int,
    status: str = "",
    q: str = "",
    after_key: str = "",
    before_key: str = "",
    limit: int = 50,
) -> list[Schedule]:
    """Give a page of a tenant's schedules.

    Args:
        status: one of `models.Status`, or empty for all.
        q: part of the key or of the task type.
        after_key: the last key of the page before.
        before_key: instead, the first key of the page after: the answer is in reverse order.
        limit: 1 to 201, a page and one more.
    """
    found = schedules_of(tenant_id=tenant_id)
    if status:
        found = found.filter(status=status)
    if q:
        found = found.filter(Q(key__icontains=q) | Q(periodic_task__task__icontains=q))
    if after_key:
        found = found.filter(key__gt=after_key)
    if before_key:
        found = found.filter(key__lt=before_key).order_by("-key")
    return list(found[: min(max(limit, 1), MOST_ROWS)])


def find_schedule(*, tenant_id: int, schedule_id: uuid.UUID) -> Schedule:
    """Give a schedule.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
    """
    found = schedules_of(tenant_id=tenant_id).filter(id=schedule_id).first()
    if found is None:
        raise ScheduleNotFound
    return found


def firings_of(
    *,
    tenant_id: int,
    schedule_id: uuid.UUID,
    outcome: str = "",
    before: datetime | None = None,
    after: datetime | None = None,
    limit: int = 50,
) -> list[Firing]:
    """Give a page of a schedule's due instants, the newest first.

    Args:
        outcome: one of `decisions.Outcome`, or empty for all.
        before: only instants earlier than this one: the last of the page before.
        after: instead, only later ones: the answer is in reverse order.
        limit: 1 to 201, a page and one more.

    Raises:
        ScheduleNotFound: no such schedule of this tenant.
    """
    schedule = find_schedule(tenant_id=tenant_id, schedule_id=schedule_id)
    found = Firing.objects.filter(schedule=schedule).order_by("-nominal_at")
    if outcome:
        found = found.filter(outcome=outcome)
    if before is not None:
        found = found.filter(nominal_at__lt=before)
    if after is not None:
        found = found.filter(nominal_at__gt=after).order_by("nominal_at")
    return list(found[: min(max(limit, 1), MOST_ROWS)])


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatHealth:
    """Whether the clock runs.

    Attributes:
        is_ok: a beat was seen lately, and nothing has been due for long.
        is_needed: something is on the clock.
        detail: one phrase for people where it is not.
        facts: `beats` alive, `late_seconds` of the most overdue schedule, `publishing` firings that
            wait for the broker, `schedules` on the clock, `broken` ones.
    """

    is_ok: bool
    is_needed: bool = True
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


_HEALTH: Final = """
SELECT
    (SELECT count(*) FROM taskmill_beat
     WHERE last_seen_at > taskmill_now() - make_interval(secs => %(silent)s)) AS beats,
    (SELECT greatest(0, extract(epoch FROM taskmill_now() - min(next_at)))::float8
     FROM taskmill_schedule WHERE next_at IS NOT NULL) AS late_seconds,
    (SELECT count(*) FROM taskmill_firing WHERE outcome = 'publishing') AS publishing,
    (SELECT count(*) FROM taskmill_schedule WHERE next_at IS NOT NULL) AS schedules,
    (SELECT count(*) FROM taskmill_schedule WHERE status = 'broken') AS broken
"""


def check_beat() -> BeatHealth:
    """Say whether a beat keeps time.

    Raises:
        django.db.Error: the database does not answer.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HEALTH, {"silent": SILENT_SECONDS})
        [facts] = rows_as_dicts(cursor)
    facts["late_seconds"] = round(facts["late_seconds"] or 0.0, 1)
    detail = ""
    if not facts["beats"]:
        detail = "no beat runs; schedules do not fire"
    elif facts["late_seconds"] > LATE_SECONDS:
        detail = f"schedules fire {facts['late_seconds']:.0f} s late"
    return BeatHealth(
        is_ok=not detail, is_needed=bool(facts["schedules"]), detail=detail, facts=facts
    )


LATELY_MINUTES: Final = 5
LATELY_MOST: Final = 10_000

_LATELY: Final = """
SELECT outcome, count(*), coalesce(max(extract(epoch FROM fired_at - nominal_at)), 0)::float8
FROM (
    SELECT outcome, nominal_at, fired_at FROM taskmill_firing
    WHERE recorded_at > taskmill_now() - make_interval(mins => %(minutes)s)
        AND NOT is_manual
    ORDER BY recorded_at DESC LIMIT %(most)s
) AS lately GROUP BY outcome
"""


def firings_lately() -> dict[str, tuple[int, float]]:
    """Give, by outcome, how many instants were recorded lately and the most seconds late.

    Raises:
        django.db.Error: the database does not answer.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LATELY, {"minutes": LATELY_MINUTES, "most": LATELY_MOST})
        return {outcome: (count, late) for outcome, count, late in cursor.fetchall()}
