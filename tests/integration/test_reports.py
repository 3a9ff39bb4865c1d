"""The system schedules, run by a real worker: numbers of hours, the mail in a real SMTP sink, and
what cleaning takes and leaves."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection

import scheduler.handlers  # noqa: F401 - declares the schedules
import tests.task_handlers  # noqa: F401 - registers the types
from config.env import Environment
from scheduler.declared import sync_declared
from scheduler.models import Firing, HourNumbers, Schedule
from scheduler.reports import cleaning
from scheduler.reports.conf import ReportsConf
from scheduler.reports.daily import bounds_of, day_before
from tasks_app.models import Task
from tests.beats import database_now, every, make_schedule
from tests.factories import drive, make_key, make_task, make_tenant
from tests.integration.api_client import Api
from tests.processes import Process, publish_hints, running_worker, wait_for
from tests.smtp import MailServer

pytestmark = pytest.mark.django_db(transaction=True)


class Cancelled(Exception):
    """Stands for a task that is asked to stop."""


@pytest.fixture(scope="module")
def worker(
    valkey: Any, mail_server: MailServer, django_db_setup: None, django_db_blocker: Any
) -> Iterator[Process]:
    settings = {
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "TASKMILL_REPORT_RECIPIENTS": "ops@example.org, boss@example.org",
        "TASKMILL_SCHEDULER_FIRING_DAYS": "30",
    }
    with django_db_blocker.unblock(), running_worker(**settings) as process:
        yield process


@pytest.fixture
def api() -> Api:
    found = Api(make_key(make_tenant("default")))
    sync_declared()
    return found


def start(api: Api, key: str) -> uuid.UUID:
    """Run a system schedule now, over the API."""
    [found] = api.get(f"/schedules?q={key}").json()["results"]
    answer = api.post(f"/schedules/{found['id']}/run")
    assert answer.status_code == 202, answer.content
    return uuid.UUID(answer.json()["task_id"])


def hand_over(task_id: uuid.UUID) -> None:
    """Dispatch a task to the worker, as the engine would."""
    drive(task_id, "dispatched")
    task = Task.objects.get(id=task_id)
    publish_hints([(task_id, task.dispatch_seq, task.type, task.queue)])


def ended(task_id: uuid.UUID) -> Task:
    return wait_for(
        lambda: Task.objects.filter(id=task_id, finished_at__isnull=False).first(), seconds=30
    )


def finish_at(at: datetime, state: str, *, ran: float = 2.0, **fields: Any) -> None:
    """Give a task that finished then, after three seconds in the queue."""
    task_id = make_task(fields.pop("tenant", None) or make_tenant("default"), state=state, **fields)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_task SET finished_at = %(at)s, created_at = %(at)s - interval '1 day',"
            " started_at = CASE WHEN started_at IS NOT NULL THEN %(at)s - %(ran)s * interval '1 s'"
            " END, queued_at = %(at)s - (%(ran)s + 3) * interval '1 s' WHERE id = %(id)s",
            {"at": at, "ran": ran, "id": task_id},
        )


def record_instant(key: str, at: datetime, outcome: str) -> None:
    Firing.objects.create(
        schedule=Schedule.objects.get(key=key), nominal_at=at, recorded_at=at, outcome=outcome
    )


def test_the_system_schedules_are_due_at_two_each_hour_and_at_nine(api: Api) -> None:
    found = {one["key"]: one for one in api.get("/schedules?q=system.").json()["results"]}
    assert {key: one["cron"] for key, one in found.items()} == {
        "system.clean": "0 2 * * *",
        "system.report_hourly": "2 * * * *",
        "system.report_daily": "0 9 * * *",
    }
    assert {(one["status"], one["read_only"], one["timezone"]) for one in found.values()} == {
        ("active", True, "UTC")
    }


def test_the_hourly_report_keeps_numbers_that_the_history_shows_to_their_tenant(
    worker: Process, api: Api
) -> None:
    task_id = start(api, "system.report_hourly")
    due = Firing.objects.get(task_id=task_id).nominal_at
    hour = due.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for state, ran in (("success", 1.0), ("success", 3.0), ("failed", 2.0)):
        finish_at(hour + timedelta(minutes=20), state, ran=ran, queue="mail")
    finish_at(hour, "cancelled", type="tests.other")
    finish_at(hour - timedelta(microseconds=1), "success", type="tests.before")
    finish_at(hour + timedelta(hours=1), "success", type="tests.after")
    finish_at(hour, "timeout", tenant=make_tenant("stranger"))
    hand_over(task_id)
    task = ended(task_id)
    assert (task.state, task.result["finished"]) == ("success", 5)

    [shown] = api.get("/stats/history").json()["results"]
    assert datetime.fromisoformat(shown["hour"]) == hour
    by_status = {"success": 2, "failed": 1, "error": 0, "timeout": 0, "cancelled": 1}
    assert (shown["finished"], shown["by_status"]) == (4, by_status)
    assert shown["success_rate"] == pytest.approx(2 / 3, abs=1e-4)
    assert shown["average_run_seconds"] == 2.0
    [mail] = api.get("/stats/history?window=7d&queue=mail&type=tests.echo").json()["results"]
    assert (mail["finished"], mail["average_wait_seconds"]) == (3, 3.0)
    assert api.get("/stats/history?queue=other").json()["results"] == []
    assert api.get("/stats/history?window=1y").status_code == 422
    theirs = Api(make_key(make_tenant("stranger"))).get("/stats/history").json()["results"]
    assert [row["by_status"]["timeout"] for row in theirs] == [1]

    again = start(api, "system.report_hourly")
    hand_over(again)
    ended(again)
    assert sum(HourNumbers.objects.filter(hour=hour).values_list("success", flat=True)) == 2


def test_the_daily_report_is_mailed_as_text_and_html_with_the_day_s_numbers(
    worker: Process, api: Api, mail_server: MailServer
) -> None:
    task_id = start(api, "system.report_daily")
    day = day_before(Firing.objects.get(task_id=task_id).nominal_at, "UTC")
    begin, end = bounds_of(day, "UTC")
    for at, state in ((begin, "success"), (end - timedelta(seconds=1), "success")):
        finish_at(at, state, ran=90)
    finish_at(begin + timedelta(hours=5), "failed", type="tests.<b>order</b>", ran=90)
    finish_at(begin + timedelta(hours=6), "timeout", type="tests.<b>order</b>", ran=90)
    finish_at(end, "error", type="tests.today")
    make_task(queue="slow-lane")
    make_schedule(every(60), key="torn")
    Schedule.objects.filter(key="torn").update(status="broken")
    for number, outcome in enumerate(("fired", "missed", "missed", "skipped")):
        at = begin + timedelta(hours=number)
        record_instant("torn", at, outcome)
    record_instant("torn", end, "fired")
    mail_server.mails.clear()
    mail_server.refusals = ["451 try again"]
    hand_over(task_id)
    wait_for(lambda: Task.objects.get(id=task_id).state == "retrying", seconds=30)
    assert "SERVICE_UNAVAILABLE" in str(Task.objects.get(id=task_id).error)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_task SET state = 'queued' WHERE id = %s", [task_id])
    hand_over(task_id)
    assert ended(task_id).result == {"day": day.isoformat(), "recipients": 2}

    [(recipients, mail)] = mail_server.mails
    assert recipients == ["ops@example.org", "boss@example.org"]
    assert mail["Subject"] == f"Taskmill {day.isoformat()}: 4 tasks, 2 failed"
    text = mail.get_body(("plain",)).get_content()
    page = mail.get_body(("html",)).get_content()
    for part in ("4 tasks finished, success rate 50.00%", "average duration 1.5 min"):
        assert part in text
    assert "  tests.<b>order</b>: 2 of 2" in text
    assert "average wait 3.0 s" in text
    assert "  slow-lane: 1 waiting, the oldest for " in text
    assert "Schedules: 1 fired, 1 skipped, 2 missed" in text
    assert "Broken: torn" in text
    assert "tests.today" not in text
    assert 'tests.&lt;b&gt;order&lt;/b&gt;</td><td align="right">2</td>' in page
    assert "success rate <b>50.00%</b>" in page
    assert "slow-lane" in page
    assert "1 fired, 1 skipped, 2 missed. Broken: torn." in page


def test_cleaning_takes_what_has_expired_and_leaves_what_is_needed(
    worker: Process, api: Api
) -> None:
    row, idle = make_schedule(every(60)), make_schedule(every(60))
    now = database_now()
    live = make_task()
    ages = {"expired": 31, "young": 29, "open": 40, "waiting": 41, "publishing": 42, "last": 43}
    for name, days in ages.items():
        Firing.objects.create(
            schedule=idle if name == "last" else row,
            nominal_at=now - timedelta(days=days),
            recorded_at=now - timedelta(days=days),
            outcome={"waiting": "waiting", "publishing": "publishing"}.get(name, "fired"),
            is_open=name == "open",
            reason=name,
        )
    Schedule.objects.filter(id=row.id).update(last_nominal_at=now - timedelta(days=1))
    Schedule.objects.filter(id=idle.id).update(last_nominal_at=now - timedelta(days=43))
    tenant = make_tenant("default")
    for days in (401, 399):
        HourNumbers.objects.create(
            hour=now - timedelta(days=days), tenant=tenant, queue="q", type="t"
        )
    Session.objects.create(session_key="old", expire_date=now - timedelta(seconds=1))
    Session.objects.create(session_key="new", expire_date=now + timedelta(hours=1))
    task_id = start(api, "system.clean")
    hand_over(task_id)
    assert ended(task_id).result == {"firings": 1, "hours": 1, "sessions": 1}
    left = set(Firing.objects.exclude(reason="").values_list("reason", flat=True))
    assert left == {"young", "open", "waiting", "publishing", "last"}
    assert HourNumbers.objects.count() == 1
    assert [one.session_key for one in Session.objects.all()] == ["new"]
    assert Task.objects.get(id=live).state == "queued"


def test_cleaning_goes_in_batches_and_stops_between_two_when_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cleaning, "BATCH", 2)
    make_schedule(every(60), key="row")
    now = database_now()
    for days in (31, 32, 33, 34, 35):
        record_instant("row", now - timedelta(days=days), "fired")
    turns = 0

    def stop_at_the_second() -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise Cancelled

    def clean(go_on: Callable[[], None]) -> dict[str, int]:
        return cleaning.remove_expired(firing_days=30, history_days=400, go_on=go_on)

    with pytest.raises(Cancelled):
        clean(stop_at_the_second)
    left = sorted(now - at for at in Firing.objects.values_list("nominal_at", flat=True))
    assert left == [timedelta(days=days) for days in (31, 32, 33)]
    assert clean(lambda: None)["firings"] == 3
    assert not Firing.objects.exists()


def test_a_schedule_of_a_tenant_s_own_does_not_start_a_system_task_either(worker: Process) -> None:
    theirs = Api(make_key(make_tenant("stranger")))
    wanted = {"key": "system.clean", "type": "system.clean", "interval_seconds": 3600}
    assert theirs.post("/schedules", wanted).status_code == 201
    task_id = start(theirs, "system.clean")
    hand_over(task_id)
    assert ended(task_id).error["code"] == "PERMISSION_DENIED"


def test_a_tenant_that_submits_a_system_task_itself_is_refused(worker: Process) -> None:
    theirs = Api(make_key(make_tenant("stranger")))
    for name in ("system.clean", "system.report_hourly", "system.report_daily"):
        forged = {"nominal_at": datetime(2027, 1, 1, tzinfo=UTC).isoformat()}
        answer = theirs.post("/tasks", {"type": name, "metadata": forged})
        task_id = uuid.UUID(answer.json()["id"])
        hand_over(task_id)
        task = ended(task_id)
        assert (task.state, task.error["code"]) == ("failed", "PERMISSION_DENIED")
    assert not HourNumbers.objects.exists()


def test_a_local_day_has_its_own_length_where_the_clocks_jump() -> None:
    at = datetime(2027, 3, 29, 7, 0, tzinfo=UTC)
    day = day_before(at, "Europe/Berlin")
    begin, end = bounds_of(day, "Europe/Berlin")
    assert (day.isoformat(), end - begin) == ("2027-03-28", timedelta(hours=23))


def test_settings_of_mail_that_cannot_work_refuse_the_start() -> None:
    conf = ReportsConf(recipients=("ops", "a@b.c"), timezone="Mars/Olympus")
    names = [name for name, _ in conf.faults(has_mail=False)]
    assert names == ["TASKMILL_REPORT_TIMEZONE", "TASKMILL_REPORT_RECIPIENTS", "EMAIL_URL"]
    environment = Environment({"EMAIL_URL": "imap://host", "OTHER": "smtps://a%40b:p%2Fw@host"})
    assert environment.mail("EMAIL_URL").backend.endswith("dummy.EmailBackend")
    assert [fault.split(":")[0] for fault in environment.faults] == ["EMAIL_URL"]
    found = environment.mail("OTHER")
    assert (found.user, found.password, found.port, found.has_tls) == ("a@b", "p/w", 465, True)
