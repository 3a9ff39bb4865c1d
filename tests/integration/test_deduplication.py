"""Unique keys and debouncing at the API: what is given, refused, replaced and put off."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.models import Event, Task, Tenant, UniqueHold
from tests import task_handlers  # noqa: F401 - registers the types
from tests.attempts import claim_one, interrupt_one
from tests.factories import drive, make_key, make_task, make_tenant, task_state
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db
ECHO = {"type": "tests.echo"}


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def move_clock(offset: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL taskmill.clock_offset = '{offset}'")


def body(n: int = 1, **unique: Any) -> dict[str, Any]:
    return ECHO | {"payload": {"n": n}, "unique": {"key": "k"} | unique}


def debounced(n: int, *, wait: float = 10, max_wait: float = 30, **more: Any) -> dict[str, Any]:
    rule = {"key": "k", "wait": wait, "max_wait": max_wait}
    return ECHO | {"payload": {"n": n}, "debounce": rule} | more


def forget(task_id: Any) -> None:
    Event.objects.filter(task_id=task_id).delete()
    Task.objects.filter(id=task_id).delete()


def test_a_key_with_a_ttl_gives_its_task_whatever_became_of_it(api: Api) -> None:
    rule = {"while": "ttl", "ttl": 60}
    first = api.post("/tasks", body(**rule))
    drive(first.json()["id"], "success")
    again = api.post("/tasks", body(**rule))
    assert (first.status_code, again.status_code) == (202, 200)
    assert (again.json()["id"], again.json()["status"]) == (first.json()["id"], "success")
    refused = api.post("/tasks", body(on_conflict="reject", **rule))
    assert (refused.status_code, refused.json()["task_id"]) == (409, first.json()["id"])
    move_clock("59 seconds")
    assert api.post("/tasks", body(**rule)).status_code == 200
    move_clock("60 seconds")
    later = api.post("/tasks", body(**rule))
    assert later.status_code == 202
    assert api.post("/tasks", body(**rule)).json()["id"] == later.json()["id"]
    assert Task.objects.count() == 2


def test_a_key_with_a_ttl_is_free_once_its_task_is_purged(api: Api) -> None:
    rule = {"while": "ttl", "ttl": 60}
    forget(api.post("/tasks", body(**rule)).json()["id"])
    assert api.post("/tasks", body(**rule)).status_code == 202
    assert UniqueHold.objects.count() == 1


def test_keys_of_the_two_kinds_and_of_two_tenants_do_not_meet(api: Api) -> None:
    other = Api(make_key(make_tenant("other")))
    rules: list[dict[str, Any]] = [{"while": "ttl", "ttl": 60}, {"while": "active"}]
    for one in (api, other):
        for rule in rules:
            assert one.post("/tasks", body(on_conflict="reject", **rule)).status_code == 202
        assert one.post("/tasks", debounced(1)).status_code == 202


@pytest.mark.parametrize("rule", [{}, {"while": "ttl", "ttl": 60}])
def test_replace_cancels_the_waiting_task_in_favour_of_the_new_one(
    api: Api, rule: dict[str, Any]
) -> None:
    old = api.post("/tasks", body(1, **rule)).json()["id"]
    answer = api.post("/tasks", body(2, on_conflict="replace", **rule))
    new = answer.json()
    assert (answer.status_code, new["payload"], new["state"]) == (202, {"n": 2}, "queued")
    assert task_state(old) == "cancelled"
    last = Event.objects.filter(task_id=old).latest("seq")
    assert (last.type, last.from_state) == ("task.cancelled", "queued")
    assert last.data["replaced_by"] == new["id"]
    assert last.data["reason"] == f"replaced by {new['id']}"
    assert api.post("/tasks", body(3, **rule)).json()["id"] == new["id"]


@pytest.mark.parametrize("state", ["scheduled", "queued", "dispatched", "retrying", "blocked"])
def test_a_task_that_waits_in_whatever_way_is_replaced(
    api: Api, tenant: Tenant, state: str
) -> None:
    old = make_task(tenant, state=state, unique_key="k")
    assert api.post("/tasks", body(on_conflict="replace")).status_code == 202
    assert task_state(old) == "cancelled"


@pytest.mark.parametrize("state", ["running", "cancelling"])
def test_a_running_task_is_not_touched_and_the_new_one_is_refused(
    api: Api, tenant: Tenant, state: str
) -> None:
    running = make_task(tenant, state=state, unique_key="k")
    refused = api.post("/tasks", body(on_conflict="replace"))
    assert (refused.status_code, refused.json()["code"]) == (409, "duplicate_task")
    assert refused.json()["task_id"] == str(running)
    assert state in refused.json()["detail"]
    assert task_state(running) == state
    assert Task.objects.count() == 1


def test_replace_within_a_ttl_refuses_where_the_task_is_finished(api: Api) -> None:
    rule = {"while": "ttl", "ttl": 60, "on_conflict": "replace"}
    finished = api.post("/tasks", body(**rule)).json()["id"]
    drive(finished, "success")
    refused = api.post("/tasks", body(**rule))
    assert (refused.status_code, refused.json()["task_id"]) == (409, finished)
    assert "only a waiting one is replaced" in refused.json()["detail"]


def test_a_bulk_settles_keys_item_by_item_in_order(api: Api) -> None:
    kept = api.post("/tasks", body()).json()["id"]
    ttl = {"while": "ttl", "ttl": 60}
    items = [
        body(on_conflict="reject"),
        body(2, on_conflict="replace"),
        body(3, key="x", **ttl),
        body(4, key="x", **ttl),
        debounced(5),
        debounced(6),
    ]
    answer = api.post("/tasks/bulk", {"items": items})
    results = answer.json()["results"]
    assert [one["status"] for one in results] == [409, 202, 202, 200, 202, 200]
    assert results[2]["id"] == results[3]["id"]
    assert results[4]["id"] == results[5]["id"]
    assert task_state(kept) == "cancelled"
    whole = api.post("/tasks/bulk", {"items": [ECHO, items[0]], "atomic": True})
    assert pointers(whole) == ["/items/1"]


def test_a_later_submission_within_the_wait_replaces_payload_and_start(api: Api) -> None:
    first = api.post("/tasks", debounced(1, metadata={"a": 1}, tags=["x"], priority=1))
    created = Task.objects.get().created_at
    move_clock("8 seconds")
    again = api.post("/tasks", debounced(2, metadata={"b": 2}, tags=["y"], priority=2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    row = Task.objects.get()
    assert (row.payload, row.metadata, row.tags, row.priority) == ({"n": 2}, {"b": 2}, ["y"], 2)
    assert row.state == "scheduled"
    assert timedelta(seconds=18) <= row.run_at - created < timedelta(seconds=19)
    assert [event.type for event in Event.objects.order_by("seq")] == [
        "task.created",
        "task.updated",
    ]


def test_the_maximum_counts_from_the_first_and_is_never_moved(api: Api) -> None:
    api.post("/tasks", debounced(1))
    created = Task.objects.get().created_at
    for seconds in (9, 18, 25):
        move_clock(f"{seconds} seconds")
        assert api.post("/tasks", debounced(seconds, max_wait=600)).status_code == 200
    row = Task.objects.get()
    assert row.run_at - created == timedelta(seconds=30)
    move_clock("40 seconds")
    assert api.post("/tasks", debounced(40)).json()["state"] == "queued"
    assert Task.objects.get().run_at - created == timedelta(seconds=30)


def test_a_shorter_maximum_brings_the_start_forward(api: Api) -> None:
    api.post("/tasks", debounced(1))
    created = Task.objects.get().created_at
    move_clock("4 seconds")
    api.post("/tasks", debounced(2, wait=5, max_wait=6))
    assert Task.objects.get().run_at - created == timedelta(seconds=6)


def test_a_hint_of_a_debounced_task_becomes_stale(api: Api) -> None:
    task_id = api.post("/tasks", debounced(1, wait=0, max_wait=60)).json()["id"]
    with connection.cursor() as cursor:
        [hint], _ = transitions.dispatch(cursor, queue="default", room=1)
        api.post("/tasks", debounced(2, wait=9, max_wait=60))
        assert task_state(task_id) == "scheduled"
        assert claim_one(cursor, (hint.id, hint.dispatch_seq)) is None


def test_once_it_runs_the_next_submission_waits_beside_it(api: Api) -> None:
    first = api.post("/tasks", debounced(1, wait=0)).json()["id"]
    drive(uuid.UUID(first), "running")
    second = api.post("/tasks", debounced(2, wait=0))
    assert second.status_code == 202
    assert second.json()["id"] != first
    assert api.post("/tasks", debounced(3, wait=0)).json()["id"] == second.json()["id"]
    with connection.cursor() as cursor:
        assert interrupt_one(cursor, uuid.UUID(first), epoch=1)
    assert api.post("/tasks", debounced(4, wait=0)).json()["id"] == second.json()["id"]
    assert Task.objects.get(id=first).payload == {"n": 1}


def test_a_retried_task_is_not_debounced_any_more(api: Api) -> None:
    first = api.post("/tasks", debounced(1)).json()["id"]
    assert api.delete(f"/tasks/{first}").status_code == 200
    second = api.post("/tasks", debounced(2)).json()["id"]
    assert api.post(f"/tasks/{first}/retry", {}).status_code == 202
    assert api.post("/tasks", debounced(3)).json()["id"] == second
    assert Task.objects.get(id=first).payload == {"n": 1}


def test_debounce_keys_of_two_types_do_not_meet(api: Api) -> None:
    order = debounced(1) | {"type": "tests.order", "payload": {"order_id": 1}}
    assert [api.post("/tasks", one).status_code for one in (debounced(1), order)] == [202, 202]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"unique": {"key": "k", "while": "always"}}, "/unique/while"),
        ({"unique": {"key": "k", "while": "ttl"}}, "/unique/ttl"),
        ({"unique": {"key": "k", "ttl": 5}}, "/unique/ttl"),
        ({"unique": {"key": "k", "while": "ttl", "ttl": 0}}, "/unique/ttl"),
        ({"unique": {"key": "k", "while": "ttl", "ttl": 2_592_001}}, "/unique/ttl"),
        ({"unique": {"key": "k", "on_conflict": "ignore"}}, "/unique/on_conflict"),
        ({"debounce": {"key": "k", "wait": 1}}, "/debounce/max_wait"),
        ({"debounce": {"key": "k", "wait": 2, "max_wait": 1}}, "/debounce/max_wait"),
        ({"debounce": {"key": "k", "wait": -1, "max_wait": 1}}, "/debounce/wait"),
        ({"debounce": {"key": "", "wait": 1, "max_wait": 1}}, "/debounce/key"),
        ({"debounce": {"key": "k", "wait": 1, "max_wait": 1}, "delay": 1}, "/debounce"),
        (
            {"debounce": {"key": "k", "wait": 1, "max_wait": 1}, "unique": {"key": "k"}},
            "/debounce",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_its_pointer(
    api: Api, change: dict[str, Any], pointer: str
) -> None:
    response = api.post("/tasks", ECHO | change)
    assert (response.status_code, pointers(response)) == (422, [pointer])
