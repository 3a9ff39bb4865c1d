"""Schedules on a real database: what is due is fired once, by policy, and leaves a row."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

import tests.task_handlers  # noqa: F401 - registers the types
from scheduler.conf import SchedulerConf
from scheduler.models import Firing, Schedule, Status
from scheduler.public import (
    InvalidRule,
    ScheduleExists,
    ScheduleNotFound,
    Timing,
    Wanted,
    create_schedule,
    delete_schedule,
    find_schedule,
    firings_of,
    list_schedules,
    pause_schedule,
    preview_schedule,
    preview_timing,
    resume_schedule,
    run_now,
    update_schedule,
)
from tasks_app import registry
from tasks_app.models import Task
from tasks_app.public import UnknownTaskType, ValidationFailed, handler
from tests import beats
from tests.beats import (
    caller,
    clock_shifted,
    database_now,
    every,
    instants,
    make_schedule,
    outcomes,
    tick,
    utc,
)
from tests.factories import drive

pytestmark = pytest.mark.django_db(transaction=True)


def tasks_of(schedule: Schedule) -> list[Task]:
    return list(Task.objects.filter(schedule=schedule.key).order_by("created_at", "id"))


def test_a_due_instant_becomes_a_firing_and_a_task_that_names_its_schedule() -> None:
    schedule = make_schedule(every(10), payload={"n": 1})
    tick()
    assert instants(schedule) == []
    due = schedule.next_nominal_at
    assert due == schedule.anchor_at + timedelta(seconds=10)
    with clock_shifted(11):
        tick()
        tick()
    [firing] = Firing.objects.filter(schedule=schedule)
    [task] = tasks_of(schedule)
    assert (firing.nominal_at, firing.outcome, firing.task_id) == (due, "fired", task.id)
    assert (task.payload, task.submitted_by) == ({"n": 1}, f"schedule:{schedule.key}")
    assert task.metadata["nominal_at"] == due.isoformat()
    schedule.refresh_from_db()
    assert schedule.next_nominal_at == due + timedelta(seconds=10)
    assert (schedule.fired_count, schedule.last_task_id) == (1, task.id)
    assert schedule.periodic_task.total_run_count == 1
    assert schedule.periodic_task.last_run_at is not None


def test_late_ticks_do_not_shift_an_interval() -> None:
    schedule = make_schedule(every(10), overlap="allow", catch_up="all", catch_up_most=100)
    for late in (17, 33, 34, 58):
        with clock_shifted(late):
            tick()
    assert instants(schedule, "fired") == [
        schedule.anchor_at + timedelta(seconds=10 * n) for n in range(1, 6)
    ]


@pytest.mark.parametrize(
    ("policy", "most", "fired"),
    [("skip", 10, []), ("last", 10, [9]), ("all", 3, [7, 8, 9]), ("all", 100, list(range(1, 10)))],
)
def test_after_an_outage_the_catch_up_policy_decides_and_every_instant_has_its_row(
    policy: str, most: int, fired: list[int]
) -> None:
    schedule = make_schedule(every(60), catch_up=policy, catch_up_most=most)
    with clock_shifted(9 * 60 + 45):
        tick()
    expected = [schedule.anchor_at + timedelta(minutes=n) for n in range(1, 10)]
    assert instants(schedule) == expected
    assert instants(schedule, "fired") == [expected[n - 1] for n in fired]
    assert instants(schedule, "missed") == [
        at for n, at in enumerate(expected, 1) if n not in fired
    ]
    assert len(tasks_of(schedule)) == len(fired)


def test_instants_within_the_grace_are_all_fired_whatever_the_catch_up_policy() -> None:
    schedule = make_schedule(every(1), catch_up="skip")
    with clock_shifted(5.5):
        tick()
    assert outcomes(schedule) == ["fired"] * 5


def test_an_instant_later_than_its_expiry_is_missed_though_it_could_be_made_up_for() -> None:
    schedule = make_schedule(every(3600), catch_up="all", expire_seconds=300)
    with clock_shifted(3600 + 301):
        tick()
    assert outcomes(schedule) == ["missed"]
    assert "expired" in Firing.objects.get(schedule=schedule).reason


def test_of_a_long_outage_the_latest_day_is_recorded_one_by_one_and_the_rest_in_one_row() -> None:
    schedule = make_schedule(every(30), catch_up="last")
    with clock_shifted(3 * 86_400):
        clock = tick()
        for _ in range(5):
            clock.tick()
    first, *rest = Firing.objects.filter(schedule=schedule).order_by("nominal_at")
    assert first.covers_until == rest[0].nominal_at
    assert len(rest) == 86_400 / 30
    steps = {b.nominal_at - a.nominal_at for a, b in itertools.pairwise(rest)}
    assert steps == {timedelta(seconds=30)}
    assert [one.outcome for one in rest[-2:]] == ["missed", "fired"] or rest[-1].outcome == "fired"
    assert Task.objects.filter(schedule=schedule.key).count() == 1


def test_an_outage_of_many_schedules_is_made_up_for_in_bounded_transactions() -> None:
    schedules = [make_schedule(every(1)) for _ in range(3)]

    def recorded() -> list[int]:
        return sorted(len(instants(schedule)) for schedule in schedules)

    with clock_shifted(150.5):
        clock = tick(SchedulerConf(instants_most=200))
        assert recorded()[0] == 0
        assert recorded()[1] >= 150
        clock.tick()
        assert recorded()[0] >= 150
    assert [outcomes(schedule).count("missed") > 100 for schedule in schedules] == [True] * 3


def test_a_rare_instant_is_made_up_for_however_old_it_is() -> None:
    schedule = make_schedule(Timing(cron="0 0 1 1 *"), catch_up="last")
    with clock_shifted(500 * 86_400):
        tick()
    assert outcomes(schedule).count("fired") == 1


def test_overlap_skip_leaves_an_instant_out_while_a_task_is_unfinished() -> None:
    schedule = make_schedule(every(10), overlap="skip")
    for at in (11, 21):
        with clock_shifted(at):
            tick()
    assert outcomes(schedule) == ["fired", "skipped"]
    [task] = tasks_of(schedule)
    drive(task.id, "success")
    with clock_shifted(31):
        tick()
    assert outcomes(schedule) == ["fired", "skipped", "fired"]


def test_overlap_queue_one_keeps_one_instant_waiting_and_starts_it_after_the_task_before() -> None:
    schedule = make_schedule(every(10), overlap="queue_one")
    for at in (11, 21, 31):
        with clock_shifted(at):
            tick()
    assert outcomes(schedule) == ["fired", "waiting", "skipped"]
    [task] = tasks_of(schedule)
    drive(task.id, "failed")
    with clock_shifted(32):
        tick()
    assert outcomes(schedule) == ["fired", "fired", "skipped"]
    assert len(tasks_of(schedule)) == 2


def test_overlap_cancel_previous_stops_the_task_before_and_starts_the_new_one() -> None:
    schedule = make_schedule(every(10), overlap="cancel_previous")
    for at in (11, 21):
        with clock_shifted(at):
            tick()
    first, second = tasks_of(schedule)
    assert (first.state, second.state) == ("cancelled", "queued")
    assert outcomes(schedule) == ["fired", "fired"]


def test_overlap_allow_starts_beside_what_runs() -> None:
    schedule = make_schedule(every(10), overlap="allow")
    for at in (11, 21):
        with clock_shifted(at):
            tick()
    assert [task.state for task in tasks_of(schedule)] == ["queued", "queued"]


def test_a_schedule_pauses_itself_after_failures_in_a_row_and_a_success_counts_anew() -> None:
    schedule = make_schedule(every(10), pause_after_failures=2)
    for number, state in enumerate(("failed", "success", "failed", "timeout"), start=1):
        with clock_shifted(10 * number + 1):
            tick()
            drive(tasks_of(schedule)[-1].id, state)
            tick()
    schedule.refresh_from_db()
    assert (schedule.status, schedule.failures_in_row) == (Status.PAUSED, 2)
    assert "failed in a row" in schedule.status_reason
    assert not schedule.periodic_task.enabled
    with clock_shifted(51):
        tick()
    assert outcomes(schedule) == ["fired"] * 4 + ["skipped"]


def test_while_paused_instants_are_recorded_as_skipped_and_firing_goes_on_after_resuming() -> None:
    schedule = make_schedule(every(10))
    pause_schedule(caller=caller(), schedule_id=schedule.id, reason="stocktaking")
    with clock_shifted(21):
        tick()
    assert outcomes(schedule) == ["skipped", "skipped"]
    assert Firing.objects.filter(schedule=schedule)[0].reason == "paused: stocktaking"
    with clock_shifted(35):
        resumed = resume_schedule(caller=caller(), schedule_id=schedule.id)
        assert resumed.next_nominal_at == schedule.anchor_at + timedelta(seconds=40)
    with clock_shifted(41):
        tick()
    assert outcomes(schedule) == ["skipped", "skipped", "skipped", "fired"]


def test_disabling_it_in_the_table_pauses_it_and_enabling_it_resumes_it() -> None:
    schedule = make_schedule(every(10))
    table = type(schedule.periodic_task).objects.filter(pk=schedule.periodic_task_id)
    table.update(enabled=False)
    with clock_shifted(11):
        tick()
    schedule.refresh_from_db()
    assert schedule.status == Status.PAUSED
    assert outcomes(schedule) == ["skipped"]
    with clock_shifted(12):
        table.update(enabled=True)
        tick()
    with clock_shifted(21):
        tick()
    assert outcomes(schedule)[-1] == "fired"


def test_run_now_starts_a_task_beside_the_rule_and_leaves_a_row() -> None:
    schedule = make_schedule(every(3600), overlap="skip")
    task_id = run_now(caller=caller(), schedule_id=schedule.id)
    [firing] = firings_of(tenant_id=caller().tenant_id, schedule_id=schedule.id)
    assert (firing.task_id, firing.is_manual, firing.actor) == (task_id, True, "tests")
    assert (
        schedule.next_nominal_at
        == find_schedule(tenant_id=caller().tenant_id, schedule_id=schedule.id).next_nominal_at
    )


def test_a_one_off_fires_once_and_ends() -> None:
    at = database_now() + timedelta(seconds=60)
    schedule = make_schedule(Timing(once_at=at))
    for shift in (59, 61, 61, 500):
        with clock_shifted(shift):
            tick()
    schedule.refresh_from_db()
    assert instants(schedule, "fired") == [at]
    assert (schedule.status, schedule.next_at) == (Status.ENDED, None)
    assert not schedule.periodic_task.enabled


def test_nothing_is_due_before_the_start_and_from_the_end_on() -> None:
    now = database_now()
    schedule = make_schedule(
        every(10, start_at=now + timedelta(seconds=100), end_at=now + timedelta(seconds=120))
    )
    for shift in (50, 121, 200):
        with clock_shifted(shift):
            tick()
    assert instants(schedule) == [now + timedelta(seconds=s) for s in (100, 110)]
    schedule.refresh_from_db()
    assert schedule.status == Status.ENDED


def test_a_new_timing_is_in_force_at_once_and_only_from_then_on() -> None:
    schedule = make_schedule(every(3600))
    with clock_shifted(1000):
        changed = update_schedule(
            caller=caller(), schedule_id=schedule.id, changes={"timing": every(60)}
        )
        edited = database_now()
    with clock_shifted(1061):
        tick()
    [fired] = instants(schedule)
    assert fired == changed.next_nominal_at
    assert timedelta(seconds=59) < fired - edited <= timedelta(seconds=60)


def test_an_instant_of_the_old_timing_that_is_due_already_stays_due() -> None:
    schedule = make_schedule(every(60))
    with clock_shifted(61):
        update_schedule(caller=caller(), schedule_id=schedule.id, changes={"timing": every(3600)})
        tick()
    assert instants(schedule, "fired") == [schedule.anchor_at + timedelta(seconds=60)]


def test_spread_schedules_fire_within_their_window_each_at_its_own_time() -> None:
    found = [make_schedule(every(3600), spread="stable", spread_seconds=600) for _ in range(20)]
    lags = [(one.next_at - one.next_nominal_at).total_seconds() for one in found]
    assert all(0 <= lag < 600 for lag in lags)
    assert len(set(lags)) == 20
    one = found[0]
    with clock_shifted(3600 + lags[0] + 1):
        tick()
    one.refresh_from_db()
    assert instants(one) == [one.anchor_at + timedelta(hours=1)]
    assert (one.next_at - one.next_nominal_at).total_seconds() == lags[0]


def test_a_task_that_is_refused_is_a_skipped_instant_with_its_reason() -> None:
    schedule = make_schedule(every(10), type="tests.order", payload={"order_id": 1})
    schedule.periodic_task.kwargs = '{"order_id": -1}'
    schedule.periodic_task.save()
    with clock_shifted(11):
        tick()
    [firing] = Firing.objects.filter(schedule=schedule)
    assert (firing.outcome, firing.task_id) == ("skipped", None)
    assert "validation_failed" in firing.reason


def test_one_broken_row_of_the_tables_says_so_and_holds_nothing_up() -> None:
    good = make_schedule(every(10))
    bad = make_schedule(Timing(cron="0 * * * *"))
    crontab = bad.periodic_task.crontab
    type(crontab).objects.filter(pk=crontab.pk).update(day_of_month="31", month_of_year="2")
    with clock_shifted(11):
        tick()
    bad.refresh_from_db()
    assert (bad.status, bad.next_at) == (Status.BROKEN, None)
    assert "does not occur in February" in bad.status_reason
    assert outcomes(good) == ["fired"]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"timing": Timing(cron="0 0 31 2 *")}, InvalidRule, "day 31 does not occur in February"),
        ({"timing": Timing(cron="0 25 * * *")}, InvalidRule, "the hour '25'"),
        ({"timing": Timing(cron="* * * *")}, InvalidRule, "five fields"),
        ({"timing": Timing(cron="* * * * *", timezone="Mars/Olympus")}, InvalidRule, "time zone"),
        ({"timing": Timing()}, InvalidRule, "exactly one"),
        ({"timing": every(0.5)}, InvalidRule, "1 second"),
        ({"timing": Timing(once_at=utc("2001-01-01T00:00:00Z"))}, InvalidRule, "past"),
        ({"task_type": "tests.unknown"}, UnknownTaskType, "tests.unknown"),
        ({"task_type": "tests.order", "payload": {}}, ValidationFailed, "order_id"),
        ({"options": {"qeue": "x"}}, ValidationFailed, "qeue"),
        ({"key": ""}, InvalidRule, "key"),
    ],
)
def test_what_could_not_work_is_refused_with_the_reason(
    changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    values = {"key": "k", "task_type": "tests.echo", "timing": every(60)} | changes
    with pytest.raises(error) as caught:
        create_schedule(caller=caller(), wanted=Wanted(**values))
    fields = getattr(caught.value, "errors", [])
    assert says in f"{caught.value} {fields}"
    assert not Schedule.objects.exists()


def test_a_key_is_taken_once_per_tenant_and_other_tenants_see_nothing() -> None:
    schedule = make_schedule(every(60), key="nightly")
    with pytest.raises(ScheduleExists):
        make_schedule(every(60), key="nightly")
    other = caller("other")
    theirs = create_schedule(
        caller=other, wanted=Wanted(key="nightly", task_type="tests.echo", timing=every(60))
    )
    assert [one.id for one in list_schedules(tenant_id=other.tenant_id)] == [theirs.id]
    for use in (pause_schedule, resume_schedule, run_now, delete_schedule, preview_schedule):
        with pytest.raises(ScheduleNotFound):
            use(caller=other, schedule_id=schedule.id)
    delete_schedule(caller=caller(), schedule_id=schedule.id)
    assert not Schedule.objects.filter(id=schedule.id).exists()


def test_the_preview_tells_of_clocks_that_jump() -> None:
    timing = Timing(cron="30 2 * * *", timezone="Europe/Berlin")
    found = preview_timing(timing=timing, count=3, after=utc("2027-03-27T00:00:00Z"))
    assert [one.at.isoformat() for one in found] == [
        "2027-03-27T01:30:00+00:00",
        "2027-03-28T01:00:00+00:00",
        "2027-03-29T00:30:00+00:00",
    ]
    assert [bool(one.note) for one in found] == [False, True, False]
    assert "clocks skip 02:30 on 2027-03-28" in found[1].note


def test_a_clock_that_is_put_back_fires_nothing_twice() -> None:
    schedule = make_schedule(every(10))
    for shift in (35, 5, 25, 35, 41):
        with clock_shifted(shift):
            tick()
    assert instants(schedule) == [
        schedule.anchor_at + timedelta(seconds=10 * n) for n in (1, 2, 3, 4)
    ]
    assert len(tasks_of(schedule)) == 4
    assert beats.match_firings(instants(schedule), instants(schedule, "fired")) == {
        "missing": [],
        "extra": [],
    }


def test_the_example_of_the_how_to_makes_runs_and_pauses_a_schedule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    handler("invoices.send")(lambda: None)
    caller("default")
    page = settings.BASE_DIR / "docs" / "how-to" / "schedule-tasks.md"
    example = re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)[1]
    exec(example, {})
    [made] = list_schedules(tenant_id=caller("default").tenant_id)
    assert (made.key, made.status, made.status_reason) == (
        "invoices.nightly",
        "paused",
        "stocktaking",
    )
    [task] = Task.objects.filter(type="invoices.send")
    assert (task.queue, task.tags) == ("mail", ["nightly"])
