"""Schedules over HTTP: what administrators may do, what is refused and why."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

import tests.task_handlers  # noqa: F401 - registers the types
from scheduler.declared import schedule, sync_declared
from scheduler.models import BeatProcess, Firing, Schedule
from scheduler.public import check_beat
from scheduler.ticking.clock import Clock
from tasks_app.models import Task
from tasks_app.services.health import forget_health
from tests.beats import CONF, clock_shifted, database_now, every, make_schedule, tick
from tests.factories import make_key, make_tenant
from tests.integration.api_client import Api, pointers
from tests.task_handlers import echo

pytestmark = pytest.mark.django_db
DAILY = {"type": "tests.echo", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("default")))


def made(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post("/schedules", {"key": "nightly"} | (fields or DAILY))
    assert answer.status_code == 201, answer.content
    body: dict[str, Any] = answer.json()
    return body


def test_a_schedule_is_made_changed_listed_and_deleted(api: Api) -> None:
    found = made(api, **DAILY, payload={"a": 1}, options={"queue": "mail"}, overlap="skip")
    assert (found["cron"], found["timezone"], found["overlap"]) == (
        "30 2 * * *",
        "Europe/Berlin",
        "skip",
    )
    assert found["next_at"] is not None
    path = f"/schedules/{found['id']}"
    changed = api.patch(path, {"interval_seconds": 90, "payload": {"b": 3}}).json()
    assert (changed["cron"], changed["interval_seconds"]) == (None, 90.0)
    assert (changed["payload"], changed["options"]) == ({"b": 3}, {"queue": "mail"})
    assert (changed["overlap"], changed["key"]) == ("skip", "nightly")
    reset = api.patch(path, {"overlap": None, "options": None}).json()
    assert (reset["overlap"], reset["options"], reset["interval_seconds"]) == ("allow", {}, 90.0)
    assert api.get("/schedules?q=night").json()["results"] == [api.get(path).json()]
    assert api.get("/schedules?status=paused").json()["results"] == []
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert not Schedule.objects.exists()


SUNRISE = {"event": "sunrise", "latitude": 52.5200066, "longitude": 13.404954}


def test_a_schedule_by_the_sun_is_made_previewed_and_changed(api: Api) -> None:
    solar = {"solar": SUNRISE, "after": "2026-06-20T12:00:00Z", "count": 2}
    shown = api.post("/schedules/preview", solar).json()["results"]
    assert [one["at"][:16] for one in shown] == ["2026-06-21T02:43", "2026-06-22T02:43"]
    found = made(api, key="dawn", type="tests.echo", solar=SUNRISE)
    stored = SUNRISE | {"latitude": 52.520007}
    assert (found["solar"], found["cron"]) == (stored, None)
    again = made(api, key="dawn too", type="tests.echo", solar=SUNRISE)  # shares the place's row
    assert again["solar"] == stored
    path = f"/schedules/{found['id']}"
    noon = api.patch(path, {"solar": SUNRISE | {"event": "solar_noon"}}).json()
    assert (noon["solar"]["event"], noon["key"]) == ("solar_noon", "dawn")
    assert noon["next_at"] != found["next_at"]
    assert api.patch(path, {"interval_seconds": 60}).json()["solar"] is None


def test_a_sun_that_never_rises_there_is_refused_and_its_preview_is_empty(api: Api) -> None:
    pole = {"solar": {"event": "sunrise", "latitude": 90, "longitude": 0}}
    answer = api.post("/schedules", {"key": "k", "type": "tests.echo"} | pole)
    assert answer.status_code == 422
    assert pointers(answer) == ["/solar"]
    assert "the sun never comes to it" in answer.json()["detail"]
    assert api.post("/schedules/preview", pole).json()["results"] == []


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"cron": "0 0 31 2 *"}, "/cron", ""),
        ({"cron": "61 * * * *"}, "/cron", "minute"),
        ({"cron": "* * *"}, "/cron", "five"),
        ({"timezone": "Europe/Berlinn"}, "/timezone", "Europe/Berlinn"),
        ({"interval_seconds": 60}, "/cron", "exactly one"),
        ({"cron": None}, "/cron", "exactly one"),
        ({"cron": None, "interval_seconds": 0.5}, "/interval_seconds", "1 second"),
        ({"cron": None, "interval_seconds": 4000.5}, "/interval_seconds", "whole"),
        ({"cron": None, "once_at": "2020-01-01T00:00:00Z"}, "/once_at", "past"),
        ({"end_at": "2020-01-01T00:00:00Z"}, "/end_at", "before the next instant"),
        ({"cron": None, "once_at": "2300-01-01T00:00:00Z"}, "/once_at", "2199"),
        ({"cron": None, "once_at": "2027-01-01T00:00:00"}, "/once_at", "timezone"),
        ({"solar": SUNRISE}, "/cron", "exactly one"),
        ({"cron": None, "solar": SUNRISE | {"event": "moonrise"}}, "/solar/event", "dawn_civil"),
        ({"cron": None, "solar": SUNRISE | {"latitude": 91}}, "/solar/latitude", "90"),
        ({"cron": None, "solar": SUNRISE | {"longitude": 181}}, "/solar/longitude", "180"),
        ({"overlap": "sometimes"}, "/overlap", "allow"),
        ({"catch_up_most": 101}, "/catch_up_most", "100"),
        ({"options": {"priority": 5000}}, "/options/priority", "1000"),
        ({"options": {"run_at": "2027-01-01T00:00:00Z"}}, "/options/run_at", ""),
        ({"nonsense": 1}, "/nonsense", "unknown"),
        ({"type": "tests.order", "payload": {"order_id": -1}}, "/payload/order_id", "greater"),
    ],
)
def test_what_could_not_work_is_refused_with_its_place_and_the_reason(
    api: Api, fields: dict[str, Any], pointer: str, words: str
) -> None:
    answer = api.post("/schedules", DAILY | {"key": "k"} | fields)
    assert answer.status_code == 422
    assert pointer in pointers(answer)
    [detail] = {one["detail"] for one in answer.json()["errors"] if one["pointer"] == pointer}
    assert detail
    assert words in detail
    assert not Schedule.objects.exists()


def test_only_administrators_touch_schedules_and_other_tenants_see_none(api: Api) -> None:
    found = made(api)
    reader = Api(make_key(make_tenant("default"), ["tasks:read", "tasks:submit"]))
    stranger = Api(make_key(make_tenant("stranger")))
    paths = [
        *(("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/firings")),
        *(("POST", "/run"), ("POST", "/pause"), ("POST", "/resume")),
    ]
    before = list(Schedule.objects.values())
    for method, end in paths:
        path = f"/schedules/{found['id']}{end}"
        assert reader.call(method, path).status_code == 403
        refused = stranger.call(method, path, None if method == "GET" else {})
        absent = stranger.call(method, f"/schedules/{uuid.uuid4()}{end}")
        assert (refused.status_code, absent.status_code) == (404, 404)
        assert refused.json()["code"] == absent.json()["code"] == "schedule_not_found"
    assert stranger.get("/schedules").json()["results"] == []
    assert reader.get("/schedules").status_code == 403
    assert list(Schedule.objects.values()) == before
    assert (Firing.objects.count(), Task.objects.count()) == (0, 0)


def test_run_now_starts_a_task_and_its_firing_names_the_key(api: Api) -> None:
    path = f"/schedules/{made(api)['id']}"
    answer = api.post(f"{path}/run")
    assert answer.status_code == 202
    task = api.get(f"/tasks/{answer.json()['task_id']}").json()
    assert answer.headers["Location"].endswith(f"/api/v1/tasks/{task['id']}")
    assert (task["schedule"], task["type"]) == ("nightly", "tests.echo")
    [firing] = api.get(f"{path}/firings").json()["results"]
    assert (firing["manual"], firing["outcome"]) == (True, "fired")
    assert firing["actor"].startswith("api:")
    assert api.get(path).json()["last_task_id"] == task["id"]


@pytest.mark.parametrize("microsecond", [0, 7])
def test_two_runs_in_one_instant_are_two_firings_and_neither_takes_the_rules(
    api: Api, monkeypatch: pytest.MonkeyPatch, microsecond: int
) -> None:
    at = database_now().replace(microsecond=microsecond)
    monkeypatch.setattr("scheduler.operating.database_now", lambda: at)
    path = f"/schedules/{made(api)['id']}"
    assert [api.post(f"{path}/run").status_code for _ in range(3)] == [202, 202, 202]
    found = Firing.objects.values_list("nominal_at", flat=True).order_by("nominal_at")
    first = max(microsecond, 1)
    assert [one.microsecond for one in found] == [first, first + 1, first + 2]
    assert {one.replace(microsecond=microsecond) for one in found} == {at}


def test_a_paused_schedule_records_its_instants_as_skipped_until_it_is_resumed(api: Api) -> None:
    path = f"/schedules/{made(api, type='tests.echo', interval_seconds=60)['id']}"
    paused = api.post(f"{path}/pause", {"reason": "stocktaking"}).json()
    assert (paused["status"], paused["status_reason"]) == ("paused", "stocktaking")
    assert paused["status_by"].startswith("api:")
    with clock_shifted(61):
        tick()
        assert api.post(f"{path}/resume").json()["status"] == "active"
    with clock_shifted(125):
        tick()
    rows = api.get(f"{path}/firings").json()["results"]
    assert [row["outcome"] for row in rows] == ["fired", "skipped"]
    assert rows[1]["reason"] == "paused: stocktaking"
    assert api.get(f"{path}/firings?outcome=skipped").json()["results"] == rows[1:]


def test_a_schedule_that_is_over_is_neither_paused_nor_resumed(api: Api) -> None:
    soon = (database_now() + timedelta(seconds=60)).isoformat()
    path = f"/schedules/{made(api, type='tests.echo', once_at=soon)['id']}"
    with clock_shifted(61):
        tick()
    assert api.get(path).json()["status"] == "ended"
    for verb in ("pause", "resume"):
        answer = api.post(f"{path}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (409, "schedule_over")


def test_schedules_of_the_code_are_read_only_but_can_be_paused_and_run(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler.declared._declared", {})
    schedule("0 7 * * *", key="of.code")(echo)
    sync_declared()
    [found] = api.get("/schedules").json()["results"]
    assert (found["origin"], found["read_only"]) == ("code", True)
    path = f"/schedules/{found['id']}"
    for answer in (api.patch(path, {"cron": "0 8 * * *"}), api.delete(path)):
        assert (answer.status_code, answer.json()["code"]) == (409, "schedule_read_only")
    assert api.get(path).json()["cron"] == "0 7 * * *"
    assert api.post(f"{path}/pause").status_code == 200
    assert api.post(f"{path}/run").status_code == 202


def test_the_preview_gives_local_times_and_says_what_the_clocks_do(api: Api) -> None:
    body = {**DAILY, "count": 2, "after": "2027-03-27T12:00:00Z"}
    del body["type"]
    first, second = api.post("/schedules/preview", body).json()["results"]
    assert (first["at"], first["local"]) == ("2027-03-28T01:00:00Z", "2027-03-28T03:00:00+02:00")
    assert first["note"]
    assert (second["local"], second["note"]) == ("2027-03-29T02:30:00+02:00", None)
    refused = api.post("/schedules/preview", {"cron": "0 0 31 2 *"})
    assert (refused.status_code, pointers(refused)) == (422, ["/cron"])


def test_long_lists_have_pages_in_both_directions(api: Api) -> None:
    ids = [made(api, **DAILY, key=f"k{number}")["id"] for number in range(5)]
    page = api.get("/schedules?limit=2").json()
    seen = [row["id"] for row in page["results"]]
    while page["next"]:
        before, page = page, api.get(page["next"].partition("/api/v1")[2]).json()
        seen += [row["id"] for row in page["results"]]
        back = api.get(page["previous"].partition("/api/v1")[2]).json()
        assert back["results"] == before["results"]
    assert seen == ids
    schedule_id = ids[0]
    Firing.objects.bulk_create(
        Firing(
            schedule_id=schedule_id,
            nominal_at=datetime(2027, 1, 1, tzinfo=UTC) + timedelta(seconds=number / 3),
            outcome="missed",
            recorded_at="2027-01-01T00:00Z",
        )
        for number in range(5)
    )
    page = api.get(f"/schedules/{schedule_id}/firings?limit=2").json()
    instants = [row["nominal_at"] for row in page["results"]]
    while page["next"]:
        page = api.get(page["next"].partition("/api/v1")[2]).json()
        instants += [row["nominal_at"] for row in page["results"]]
    assert len(set(instants)) == 5
    parsed = [datetime.fromisoformat(one) for one in instants]
    assert parsed == sorted(parsed, reverse=True)


def test_the_health_of_the_clock_is_missed_where_something_is_due_and_says_how_late_it_is(
    valkey: Any,
) -> None:
    def clock_part() -> tuple[str, str]:
        forget_health()
        part = Client().get("/health").json()["parts"]["beat"]
        return part["status"], part["detail"]

    assert clock_part() == ("ok", "no beat runs; nothing is on the clock")
    make_schedule(every(60))
    assert clock_part() == ("unavailable", "no beat runs; schedules do not fire")
    tick()
    assert clock_part() == ("ok", "")
    with clock_shifted(5):
        assert clock_part() == ("ok", "")
    with clock_shifted(40):
        assert clock_part() == ("unavailable", "no beat runs; schedules do not fire")
    with clock_shifted(60 + 45):
        Clock(CONF)._report()  # a beat that lives and fires nothing
        status, detail = clock_part()
        assert (status, "s late" in detail) == ("unavailable", True)
        tick()
        assert clock_part() == ("ok", "")


def test_a_beat_says_that_it_lives_with_its_ticks_and_one_of_yesterday_is_forgotten() -> None:
    passed = 0.0
    clock = Clock(CONF, monotonic=lambda: passed)
    clock.tick()
    for passed in (1.0, 20.0, 40.0):
        with clock_shifted(passed):
            clock.tick()
            assert check_beat().facts["beats"] == 1
    with clock_shifted(40.0 + 16):
        assert check_beat().facts["beats"] == 0
    with clock_shifted(86_400 + 60):
        Clock(CONF).tick()
        assert BeatProcess.objects.count() == 1
