"""Schedules for tests: rows, a clock under the test's hand, and the checker of firings."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from scheduler.conf import SchedulerConf
from scheduler.models import Firing, Schedule
from scheduler.public import Policies, Timing, Wanted, create_schedule
from scheduler.ticking.clock import Clock
from tasks_app.platform import Caller
from tests.factories import make_tenant
from tests.processes import Process, process_environment

_numbers = itertools.count(1)
CONF = SchedulerConf()


def caller(tenant: str = "default") -> Caller:
    return Caller(tenant_id=make_tenant(tenant).id, actor="tests")


def make_schedule(
    timing: Timing,
    *,
    key: str = "",
    type: str = "tests.echo",  # noqa: A002 - the contract's word
    payload: Any = None,
    **policies: Any,
) -> Schedule:
    """Create a schedule of the default tenant through the service."""
    return create_schedule(
        caller=caller(),
        wanted=Wanted(
            key=key or f"schedule-{next(_numbers)}",
            task_type=type,
            timing=timing,
            policies=Policies(**policies),
            payload={"by": "schedule"} if payload is None else payload,
        ),
    )


def every(seconds: float, **timing: Any) -> Timing:
    return Timing(interval_seconds=seconds, **timing)


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_now()")
        return cursor.fetchone()[0]


def shift_clock(seconds: float) -> None:
    """Shift the database clock of this connection, from where it runs unshifted."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET taskmill.clock_offset = '{seconds} seconds'")


@contextmanager
def clock_shifted(seconds: float) -> Iterator[None]:
    """Shift it for the duration."""
    shift_clock(seconds)
    try:
        yield
    finally:
        shift_clock(0)


def tick(conf: SchedulerConf = CONF, times: int = 1) -> Clock:
    """Let a new beat tick."""
    clock = Clock(conf)
    for _ in range(times):
        clock.tick()
    return clock


def instants(schedule: Schedule, outcome: str = "") -> list[datetime]:
    """Give the recorded instants of a schedule in order."""
    found = Firing.objects.filter(schedule=schedule)
    if outcome:
        found = found.filter(outcome=outcome)
    return list(found.order_by("nominal_at").values_list("nominal_at", flat=True))


def outcomes(schedule: Schedule) -> list[str]:
    """Give what became of the instants in order."""
    rows = Firing.objects.filter(schedule=schedule).order_by("nominal_at")
    return list(rows.values_list("outcome", flat=True))


def due_until(anchor: datetime, until: datetime, period: int) -> list[datetime]:
    """List what was due, from the anchor alone: no code of the product computes it."""
    found, at = [], anchor + timedelta(seconds=period)
    while at <= until:
        found.append(at)
        at += timedelta(seconds=period)
    return found


def match_firings(due: Iterable[datetime], fired: Iterable[datetime]) -> dict[str, list[datetime]]:
    """Compare what was due with what was fired, one to one.

    Returns:
        `missing` instants were not fired, `extra` ones were not due or fired twice.
    """
    left = sorted(due)
    extra = []
    for at in sorted(fired):
        if at in left:
            left.remove(at)
        else:
            extra.append(at)
    return {"missing": left, "extra": extra}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def start_beat(**variables: str) -> Process:
    """Start a real `celery beat` as the Procfile does."""
    command = [sys.executable, "-m", "celery", "-A", "config", "beat", "--pidfile="]
    environment = process_environment(TASKMILL_HANDLER_MODULES="tests.task_handlers", **variables)
    environment.pop("PYTEST_CURRENT_TEST", None)
    assert os.environ["TASKMILL_VAR"]
    return Process([*command, "--loglevel", "INFO"], name="beat", environment=environment)
