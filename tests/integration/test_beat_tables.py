"""A beat on the tables of an existing django-celery-beat installation: plain Celery tasks run as
before, and the faults of its own scheduler do not occur.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery.beat import SchedulingError
from django.db import connection
from django.utils import timezone
from django_celery_beat import schedulers
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)
from django_celery_results.models import TaskResult

import tests.task_handlers  # noqa: F401 - registers the types
from config.celery import app
from scheduler.beat import TaskEntry
from scheduler.declared import _declared, schedule, sync_declared
from scheduler.models import Firing, Kind, Schedule, ScheduleChange, Status
from scheduler.public import ScheduleReadOnly, check_beat, delete_schedule, update_schedule
from scheduler.ticking.publishing import publish_due
from tasks_app.models import Task
from tests.beats import (
    CONF,
    caller,
    clock_shifted,
    database_now,
    every,
    instants,
    make_schedule,
    outcomes,
    start_beat,
    tick,
)
from tests.factories import make_tenant
from tests.processes import start_worker, wait_for
from tests.task_handlers import echo

pytestmark = pytest.mark.django_db(transaction=True)


def crontab(minute: str = "*", hour: str = "*", **fields: Any) -> CrontabSchedule:
    return CrontabSchedule.objects.create(minute=minute, hour=hour, **fields)


def plain(name: str = "old", **fields: Any) -> PeriodicTask:
    """A row as an existing installation has it."""
    if not {"crontab", "interval", "clocked"} & set(fields):
        fields["interval"] = IntervalSchedule.objects.create(every=10, period="seconds")
    return PeriodicTask.objects.create(name=name, task="tests.ordinary.tasks.add", **fields)


def ran_before(task: PeriodicTask, at: datetime) -> None:
    PeriodicTask.objects.filter(pk=task.pk).update(last_run_at=at, total_run_count=7)
    ScheduleChange.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_note_schedule(%s)", [task.pk])


class Broker:
    """Takes messages down, or fails as an absent broker does."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.is_away = False

    def __call__(self, task: PeriodicTask) -> None:
        if self.is_away:
            raise SchedulingError("no broker")
        self.messages.append(TaskEntry(task, app=app).name)


def run_count(task: PeriodicTask) -> tuple[bool, int]:
    task.refresh_from_db()
    return task.last_run_at is not None, task.total_run_count


def test_a_plain_celery_task_is_published_and_its_run_is_counted() -> None:
    task, broker = plain(), Broker()
    tick()
    assert Schedule.objects.get(periodic_task=task).kind == Kind.CELERY
    with clock_shifted(11):
        tick()
        assert publish_due(broker, CONF) == (1, 0)
        assert publish_due(broker, CONF) == (0, 0)
    assert broker.messages == ["old"]
    assert run_count(task) == (True, 1)
    assert Firing.objects.get().outcome == "fired"


def test_a_message_that_the_broker_refuses_is_sent_when_it_is_back_and_counted_once() -> None:
    """Celery's own beat advances before it publishes: the run of that instant is lost."""
    task, broker = plain(), Broker()
    broker.is_away = True
    tick()
    with clock_shifted(11):
        tick()
        assert publish_due(broker, CONF) == (0, 1)
    assert run_count(task) == (False, 0)
    assert "no broker" in Firing.objects.get().reason
    broker.is_away = False
    with clock_shifted(17):
        assert publish_due(broker, CONF) == (1, 0)
    assert (broker.messages, run_count(task)) == (["old"], (True, 1))


def stock() -> schedulers.DatabaseScheduler:
    """django-celery-beat's own scheduler, without its broker."""
    made = schedulers.DatabaseScheduler(app=app, lazy=True)
    made._finalize.cancel()
    made.__dict__["producer"] = None
    return made


def test_the_stock_scheduler_loses_that_message() -> None:
    task = plain()
    PeriodicTask.objects.filter(pk=task.pk).update(last_run_at=timezone.now() - timedelta(hours=1))
    beat = stock()
    beat.apply_async = failing
    beat.tick()
    assert beat.tick() > 4, "it waits for the next instant"
    beat.sync()
    assert run_count(task) == (True, 1), "it counts a run that never was"


def failing(*_: Any, **__: Any) -> None:
    raise SchedulingError("no broker")


def test_a_beat_that_dies_between_claiming_and_publishing_costs_time_not_the_run() -> None:
    plain()
    broker = Broker()
    tick()
    with clock_shifted(11):
        tick()
        with pytest.raises(KeyboardInterrupt):
            publish_due(interrupted, CONF)
        assert publish_due(broker, CONF) == (0, 0)
    with clock_shifted(12 + CONF.publish_lease_seconds):
        publish_due(broker, CONF)
    assert broker.messages == ["old"]


def interrupted(_: PeriodicTask) -> None:
    raise KeyboardInterrupt


def at_hour(now: datetime, hours: float) -> datetime:
    return now.replace(minute=30, second=0, microsecond=0) + timedelta(hours=hours)


def test_a_daily_task_missed_in_an_outage_is_made_up_for_at_the_start() -> None:
    """The stock scheduler does not even load rows whose hour is more than two hours away."""
    now = database_now()
    missed = at_hour(now, -6)
    if missed.hour == 4:
        missed = at_hour(now, -7)
    task = plain(crontab=crontab("30", str(missed.hour)))
    ran_before(task, missed - timedelta(days=1))
    assert "old" not in stock().schedule
    broker = Broker()
    tick(times=2)
    publish_due(broker, CONF)
    assert broker.messages == ["old"]
    assert run_count(task) == (True, 8)
    following = Schedule.objects.get(periodic_task=task).next_nominal_at
    assert following == missed + timedelta(days=1)


def test_a_row_with_an_impossible_date_says_so_where_the_stock_scheduler_is_silent() -> None:
    task = plain(crontab=crontab("0", "0", day_of_month="31", month_of_year="2"))
    assert "old" not in stock().schedule
    tick()
    found = Schedule.objects.get(periodic_task=task)
    assert found.status == Status.BROKEN
    assert found.status_reason
    assert check_beat().facts["broken"] == 1


def test_hourly_tasks_run_in_both_repeated_hours_where_the_stock_scheduler_skips_them() -> None:
    task = plain(crontab=crontab("0", "*", timezone="Europe/Berlin"))
    ran_before(task, datetime(2026, 10, 25, 0, 0, tzinfo=UTC))
    tick()
    found = Schedule.objects.get(periodic_task=task)
    first_six = instants(found)[:3] or [found.next_nominal_at]
    assert first_six[0] == datetime(2026, 10, 25, 1, 0, tzinfo=UTC)


def test_celery_means_both_days_where_cron_means_either() -> None:
    task = plain(crontab=crontab("0", "0", day_of_month="13", day_of_week="5"))
    ran_before(task, datetime(2026, 11, 14, tzinfo=UTC))
    tick()
    found = Schedule.objects.get(periodic_task=task)
    assert found.next_nominal_at == datetime(2027, 8, 13, tzinfo=UTC)


def test_a_one_off_of_the_tables_runs_once_and_is_disabled() -> None:
    at = database_now() + timedelta(seconds=30)
    task = plain(clocked=ClockedSchedule.objects.create(clocked_time=at), one_off=True)
    broker = Broker()
    tick()
    for shift in (31, 32, 90):
        with clock_shifted(shift):
            tick()
            publish_due(broker, CONF)
    task.refresh_from_db()
    assert (broker.messages, task.enabled) == (["old"], False)


def test_an_edit_by_any_way_is_seen_at_the_next_tick_and_nothing_else_is_read() -> None:
    tasks = [plain(f"old-{number}") for number in range(3)]
    tick(times=2)
    rule = IntervalSchedule.objects.get(pk=tasks[0].interval_id)
    IntervalSchedule.objects.filter(pk=rule.pk).update(every=3600)
    PeriodicTask.objects.filter(pk=tasks[1].pk).update(enabled=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM taskmill_schedule_change")
        assert cursor.fetchone() == (2,)
    tick()
    first, second, third = (Schedule.objects.get(periodic_task=task) for task in tasks)
    assert first.next_at - first.anchor_at == timedelta(seconds=3600)
    assert (second.status, second.next_at) == (Status.PAUSED, None)
    assert third.next_at - third.anchor_at == timedelta(seconds=10)


def test_a_taskmill_type_in_the_tables_is_fired_as_a_task_of_the_default_tenant() -> None:
    make_tenant("default")
    task = PeriodicTask.objects.create(
        name="by hand",
        task="tests.echo",
        kwargs='{"a": 1}',
        interval=IntervalSchedule.objects.create(every=10, period="seconds"),
    )
    tick()
    with clock_shifted(11):
        tick()
    [made] = Task.objects.filter(schedule="by hand")
    assert (made.payload, made.tenant.slug) == ({"a": 1}, "default")
    assert run_count(task) == (True, 1)


def test_rows_of_the_sun_run_and_one_whose_sun_never_rises_says_so() -> None:
    make_tenant("default")
    rows = [
        SolarSchedule.objects.create(event="sunset", latitude=latitude, longitude=13.4)
        for latitude in (52.5, 90)
    ]
    berlin, pole = (
        PeriodicTask.objects.create(name=f"sun {row.latitude}", task="tests.echo", solar=row)
        for row in rows
    )
    tick()
    due = Schedule.objects.get(periodic_task=berlin).next_nominal_at
    never = Schedule.objects.get(periodic_task=pole)
    assert due is not None
    assert (never.status, never.status_reason) == (Status.ENDED, "nothing is due any more")
    with clock_shifted((due - database_now()).total_seconds() + 1):
        tick(times=2)
    fired = Firing.objects.get()
    assert (fired.schedule.periodic_task, fired.nominal_at) == (berlin, due)
    following = Schedule.objects.get(periodic_task=berlin).next_nominal_at
    assert following is not None
    assert timedelta(hours=23) < following - due < timedelta(hours=25)
    assert Task.objects.get().schedule == "sun 52.5"


def test_deleting_the_periodic_task_takes_its_schedule_along() -> None:
    found = make_schedule(every(10))
    with clock_shifted(11):
        tick()
    PeriodicTask.objects.get(pk=found.periodic_task_id).delete()
    tick()
    assert not Schedule.objects.exists()
    assert not Firing.objects.exists()
    assert Task.objects.count() == 1
    assert PeriodicTasks.last_change() is not None


@pytest.fixture
def declared() -> Any:
    """Forget what a test declares."""
    known = dict(_declared)
    yield
    _declared.clear()
    _declared.update(known)


def test_schedules_of_the_code_are_added_changed_and_disabled_when_they_are_gone(
    declared: Any,
) -> None:
    make_tenant("default")
    schedule("*/5 * * * *", key="code", timezone="Europe/Berlin", payload={"a": 1})(echo)
    assert sync_declared()
    found = Schedule.objects.get(key="code")
    assert (found.origin, found.status) == ("code", "active")
    assert found.next_at is not None
    changed = PeriodicTask.objects.get(pk=found.periodic_task_id).date_changed
    sync_declared()
    assert PeriodicTask.objects.get(pk=found.periodic_task_id).date_changed == changed
    with pytest.raises(ScheduleReadOnly):
        update_schedule(caller=caller(), schedule_id=found.id, changes={"timing": every(9)})
    with pytest.raises(ScheduleReadOnly):
        delete_schedule(caller=caller(), schedule_id=found.id)

    _declared.clear()
    schedule(every=60, key="code", overlap="skip")(echo)
    sync_declared()
    found.refresh_from_db()
    assert (found.overlap, found.periodic_task.interval.every) == ("skip", 60)

    _declared.clear()
    sync_declared()
    found.refresh_from_db()
    assert (found.status, found.status_reason) == (Status.RETIRED, "removed from the code")
    with clock_shifted(600):
        tick()
    assert outcomes(found) == []

    schedule(every=60, key="code")(echo)
    sync_declared()
    found.refresh_from_db()
    assert found.status == Status.ACTIVE


def results_of(periodic: str) -> list[TaskResult]:
    """What the worker stored of the runs of a periodic task."""
    return list(TaskResult.objects.filter(periodic_task_name=periodic))


def test_a_real_beat_has_plain_tasks_run_takes_edits_over_quickly_and_reports_itself(
    valkey: Any,
) -> None:
    make_tenant("default")
    beat = start_beat()
    worker = start_worker(TASKMILL_APPS="tests.ordinary")
    try:
        wait_for(lambda: check_beat().facts["beats"] == 1, seconds=60, reason="no heartbeat")
        entry = PeriodicTask.objects.get(name="celery.backend_cleanup")
        assert entry.task == "celery.backend_cleanup"
        interval = IntervalSchedule.objects.create(every=3600, period="seconds")
        task = plain(interval=interval, args="[2, 3]")
        found = wait_for(lambda: Schedule.objects.filter(periodic_task=task).first(), seconds=10)
        IntervalSchedule.objects.filter(pk=interval.pk).update(every=1)
        begun = database_now()
        wait_for(lambda: run_count(task)[1] >= 2, seconds=20, reason="not published")
        seen = Firing.objects.filter(schedule=found).earliest("nominal_at").fired_at
        print(f"an edit took effect in {(seen - begun).total_seconds():.2f} s, of which 1 s is due")
        assert seen - begun < timedelta(seconds=5)
        assert check_beat().is_ok
        results = wait_for(lambda: results_of("old") if len(results_of("old")) > 1 else [])
        assert {(one.task_name, one.status, one.result) for one in results} == {
            ("tests.ordinary.tasks.add", "SUCCESS", "5")
        }
    finally:
        code = beat.stop()
        worker.stop()
    assert code == 0
    assert check_beat().facts["beats"] == 0
    assert "no beat" in check_beat().detail
