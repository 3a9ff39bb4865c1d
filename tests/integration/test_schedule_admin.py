"""Schedules in the admin: what the pages show, who may act, and what an action does."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_celery_beat.models import IntervalSchedule, PeriodicTask

import tests.task_handlers  # noqa: F401 - registers the types
from scheduler.declared import schedule, sync_declared
from scheduler.models import Firing, Schedule
from scheduler.public import Timing
from tasks_app.models import Task
from tests.beats import clock_shifted, every, make_schedule, tick
from tests.factories import make_tenant
from tests.task_handlers import echo

pytestmark = pytest.mark.django_db
LIST = "/admin/scheduler/schedule/"
FIRINGS = "/admin/scheduler/firing/"
POLYGLOT = "\"'><script>alert(1)</script>"


def operator(*codenames: str) -> Client:
    user = User.objects.create_user("-".join(["op", *codenames]), is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def act(client: Client, action: str, row: Schedule, **fields: str) -> str:
    data = {"action": action, "_selected_action": [str(row.id)], "index": "0"} | fields
    return html.unescape(client.post(LIST, data, follow=True).content.decode())


def plain_celery_task() -> Schedule:
    interval = IntervalSchedule.objects.create(every=60, period="seconds")
    task = PeriodicTask.objects.create(name="plain", task="other.add", interval=interval)
    tick()
    return Schedule.objects.get(periodic_task=task)


def test_the_pages_show_next_run_last_outcome_owner_and_who_paused_and_why(
    admin_client: Client,
) -> None:
    row = make_schedule(every(60), key=f"k{POLYGLOT}")
    make_schedule(Timing(cron="30 2 * * *", timezone="Europe/Berlin"), key="nightly")
    with clock_shifted(61):
        tick()
    act(operator("operate_schedule"), "pause_selected", row, reason=POLYGLOT)
    page = admin_client.get(LIST).content.decode()
    assert "<script>alert(1)" not in page
    shown = html.unescape(page)
    for part in ("every 60 s", "30 2 * * * (Europe/Berlin)", "default, API: tests", "fired"):
        assert part in shown
    assert f"paused by admin:op-operate_schedule: {POLYGLOT}" in shown
    for address in (
        f"{LIST}{row.id}/change/",
        f"{FIRINGS}?schedule__id__exact={row.id}",
        f"{FIRINGS}{Firing.objects.get().id}/change/",
        f"{LIST}?status=paused&q=tests.echo",
    ):
        answer = admin_client.get(address)
        assert answer.status_code == 200, address
        assert "<script>alert(1)" not in answer.content.decode()
    assert (
        str(Firing.objects.get().task_id)
        in admin_client.get(f"{LIST}{row.id}/change/").content.decode()
    )


def test_operators_run_pause_and_resume_and_others_do_not() -> None:
    row = make_schedule(every(60))
    client = operator("operate_schedule")
    assert "1 started." in act(client, "run_selected", row)
    assert Task.objects.get().schedule == row.key
    firing = Firing.objects.get()
    assert (firing.is_manual, firing.actor) == (True, "admin:op-operate_schedule")
    act(client, "pause_selected", row, reason="stocktaking")
    row.refresh_from_db()
    assert (row.status, row.status_reason) == ("paused", "stocktaking")
    act(client, "resume_selected", row)
    row.refresh_from_db()
    assert row.status == "active"

    looking = operator("view_schedule", "view_firing")
    act(looking, "run_selected", row)
    assert Task.objects.count() == 1
    assert looking.get(FIRINGS).status_code == 200
    assert operator().get(LIST).status_code == 403


def test_plain_celery_tasks_are_run_paused_and_resumed_too(admin_client: Client) -> None:
    row = plain_celery_task()
    assert "1 started." in act(admin_client, "run_selected", row)
    assert Firing.objects.get().outcome == "publishing"
    act(admin_client, "pause_selected", row)
    row.periodic_task.refresh_from_db()
    assert not row.periodic_task.enabled
    act(admin_client, "resume_selected", row)
    row.periodic_task.refresh_from_db()
    assert row.periodic_task.enabled
    assert "other.add (Celery)" in admin_client.get(LIST).content.decode()


def test_schedules_of_the_code_are_changed_there_and_others_on_celery_beats_pages(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tenant("default")
    monkeypatch.setattr("scheduler.declared._declared", {})
    schedule("0 7 * * *", key="of.code")(echo)
    sync_declared()
    of_code = Schedule.objects.get()
    address = f"{LIST}{of_code.id}/change/"
    assert "change it there" in admin_client.get(address).content.decode()
    admin_client.post(address, {"key": "other", "overlap": "skip"})
    assert Schedule.objects.values_list("key", "overlap").get() == ("of.code", "allow")
    row = plain_celery_task()
    link = f"/admin/django_celery_beat/periodictask/{row.periodic_task_id}/change/"
    assert link in admin_client.get(f"{LIST}{row.id}/change/").content.decode()
    assert admin_client.get(link).status_code == 200


def test_a_refused_action_says_why(admin_client: Client) -> None:
    row = make_schedule(every(60))
    Schedule.objects.filter(id=row.id).update(status="ended")
    shown = act(admin_client, "resume_selected", row)
    assert f"{row.key[1:]}: The schedule is over" in shown


def test_the_number_of_queries_does_not_grow_with_the_rows(admin_client: Client) -> None:
    def queries(address: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(address).status_code == 200
        return len(captured)

    def more(count: int) -> None:
        for number in range(count):
            row = make_schedule(every(60 + number))
            Firing.objects.create(
                schedule=row, nominal_at=row.anchor_at, outcome="missed", recorded_at=row.anchor_at
            )

    more(2)
    few: Any = {address: queries(address) for address in (LIST, FIRINGS)}
    more(10)
    assert {address: queries(address) for address in few} == few
    assert max(few.values()) < 15
