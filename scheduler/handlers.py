"""The system schedules: task types `system.*` that every installation runs for itself.

They are about all tenants, so only the schedules declared here may start them: the API takes such
tasks from keys with the scope `tasks:admin` alone, and one that is submitted all the same ends as
`PERMISSION_DENIED`. They can be run, paused and resumed by the
administrators of the tenant `default`.
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from pydantic import BaseModel

from scheduler.conf import conf
from scheduler.models import Firing, Origin
from scheduler.public import schedule
from scheduler.reports.cleaning import remove_expired
from scheduler.reports.conf import report_conf
from scheduler.reports.daily import day_before, make_report, message_of
from scheduler.reports.numbers import HOUR, keep_hour
from tasks_app.platform import send_mail
from tasks_app.public import Permanent, TaskContext, handler

_ZONE = report_conf().timezone


class Cleaned(BaseModel):
    """How many rows were removed."""

    firings: int
    hours: int
    sessions: int


class Measured(BaseModel):
    """Which hour was measured."""

    hour: datetime
    finished: int


class Mailed(BaseModel):
    """Which day was reported to how many."""

    day: str
    recipients: int


@schedule("0 2 * * *", key="system.clean", timezone=_ZONE, overlap="skip")
@handler("system.clean", timeout=3600)
def clean(ctx: TaskContext) -> Cleaned:
    """Remove expired instants of schedules, numbers of old hours and sessions, in batches."""
    _instant_of(ctx, "system.clean")
    counts = remove_expired(
        firing_days=conf().firing_days,
        history_days=report_conf().history_days,
        go_on=ctx.check_cancelled,
    )
    return Cleaned(**counts)


@schedule("2 * * * *", key="system.report_hourly", catch_up="all", catch_up_most=48)
@handler("system.report_hourly", timeout=300)
def report_hourly(ctx: TaskContext) -> Measured:
    """Keep the numbers of the hour before: outcomes and times per tenant, queue and type."""
    at = _instant_of(ctx, "system.report_hourly")
    hour = at.replace(minute=0, second=0, microsecond=0) - HOUR
    return Measured(hour=hour, finished=keep_hour(hour))


@schedule("0 9 * * *", key="system.report_daily", timezone=_ZONE)
@handler("system.report_daily", timeout=900)
def report_daily(ctx: TaskContext) -> Mailed:
    """Mail the numbers of the day before to TASKMILL_REPORT_RECIPIENTS."""
    at = _instant_of(ctx, "system.report_daily")
    reports = report_conf()
    day = day_before(at, reports.timezone)
    if reports.recipients:
        report = make_report(day, reports.timezone)
        message = message_of(report, reports, url=settings.PUBLIC_URL)
        ctx.once("mail", lambda: send_mail(message))
    return Mailed(day=day.isoformat(), recipients=len(reports.recipients))


def _instant_of(ctx: TaskContext, key: str) -> datetime:
    """Give the instant that the task is for.

    Raises:
        Permanent: the task was not started by the schedule of this module.
    """
    found = Firing.objects.filter(
        task_id=ctx.task_id, schedule__origin=Origin.CODE, schedule__key=key
    ).first()
    if found is None:
        raise Permanent("PERMISSION_DENIED", f"only the schedule {key} starts this; run that")
    return found.nominal_at
