"""Limits over HTTP and in the admin: keys looked at and pinned, types changed, reasons told."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app.dispatch.declared import store_declared_limits
from tasks_app.models import Limit, Queue, Task
from tasks_app.registry import get_handler, handler
from tasks_app.transitions import dispatch
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant, make_worker, task_state
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db
KEY: dict[str, Any] = {"concurrency_key": "user/1", "max_concurrency": 2}


@pytest.fixture
def api() -> Api:
    make_worker("default")
    return Api(make_key(make_tenant("acme")))


@pytest.fixture
def rated_type(monkeypatch: pytest.MonkeyPatch) -> str:
    from tasks_app import registry

    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))

    @handler("tests.rated", rate="1/h", concurrency=5)
    def rated() -> None: ...

    with connection.cursor() as cursor:
        store_declared_limits(cursor, [get_handler("tests.rated")])
    return "tests.rated"


def run_dispatcher(room: int = 100) -> int:
    with connection.cursor() as cursor:
        return len(dispatch(cursor, queue="default", room=room)[0])


def waiting(api: Api, task_id: uuid.UUID) -> Any:
    return api.get(f"/tasks/{task_id}").json()["waiting"]


def test_a_key_shows_its_holders_who_waits_and_the_limit_in_force(api: Api) -> None:
    mine, stranger = make_tenant("acme"), make_tenant("stranger")
    holders = [make_task(mine, state=state, **KEY) for state in ("dispatched", "running")]
    for state in ("blocked", "queued", "scheduled", "success"):
        make_task(mine, state=state, **KEY)
    make_task(stranger, state="running", **KEY)
    shown = api.get("/concurrency-keys/user%2F1").json()
    assert {one["id"] for one in shown["holders"]} == {str(one) for one in holders}
    assert (shown["used"], shown["waiting"], shown["waiting_capped"]) == (2, 3, False)
    assert (shown["limit"], shown["concurrency"], shown["rate"]) == (2, None, None)
    other = Api(make_key(stranger)).get("/concurrency-keys/user/1").json()
    assert (other["used"], other["waiting"]) == (1, 0)
    third = Api(make_key(make_tenant("third"))).get("/concurrency-keys/user/1")
    assert (third.status_code, third.json()["code"]) == (404, "concurrency_key_not_found")


def test_a_key_is_pinned_and_lifted_for_its_own_tenant_alone(api: Api) -> None:
    mine, stranger = make_tenant("acme"), make_tenant("stranger")
    tasks = [make_task(mine, **KEY) for _ in range(3)]
    theirs = [make_task(stranger, **KEY) for _ in range(2)]
    pinned = api.patch("/concurrency-keys/user/1", {"concurrency": 1}).json()
    assert (pinned["limit"], pinned["concurrency"]) == (1, 1)
    assert pinned["changed_by"].startswith("api:")
    assert run_dispatcher() == 3
    assert {task_state(one) for one in theirs} == {"dispatched"}
    (why,) = waiting(api, tasks[1])
    assert (why["reason"], why["key"], why["type"]) == ("concurrency_limit", "user/1", None)
    assert (why["used"], why["limit"], why["holders"]) == (1, 1, [str(tasks[0])])
    lifted = api.patch("/concurrency-keys/user/1", {"concurrency": None}).json()
    assert (lifted["limit"], lifted["changed_by"]) == (2, None)
    unused = api.patch("/concurrency-keys/later", {"rate": "60/minute"}).json()
    assert (unused["rate"], unused["limit"], unused["used"]) == ("60/min", None, 0)
    assert api.patch("/concurrency-keys/later", {"rate": None}).json()["changed_by"] is None
    assert api.get("/concurrency-keys/later").status_code == 404


def test_the_verdict_of_the_dispatcher_is_the_reason_that_is_told(api: Api) -> None:
    tenant = make_tenant("acme")
    blocked = make_task(tenant, state="blocked", **KEY)
    (why,) = waiting(api, blocked)
    assert (why["reason"], why["used"], why["limit"]) == ("concurrency_limit", 0, 2)


def test_wrong_limits_are_told_by_their_place(api: Api) -> None:
    wrong = {"concurrency": 0, "rate": "often", "colour": "red"}
    for path in ("/concurrency-keys/k", "/task-types/tests.echo"):
        answer = api.patch(path, wrong)
        assert sorted(pointers(answer)) == ["/colour", "/concurrency", "/rate"]
        assert "10/min" in answer.content.decode()
    assert api.patch("/queues/default", {"rate": "1/week"}).status_code == 422
    assert api.patch("/task-types/no.such", {}).json()["code"] == "unknown_task_type"
    assert api.get(f"/concurrency-keys/{'k' * 201}").status_code == 404
    body = {"type": "tests.echo", "concurrency_strategy": "keep_latest"}
    assert api.post("/tasks", body).status_code == 422
    body |= KEY | {"concurrency_strategy": "cancel_all"}
    assert pointers(api.post("/tasks", body)) == ["/concurrency_strategy"]


def test_only_keys_that_may_write_queues_change_limits(api: Api) -> None:
    reader = Api(make_key(make_tenant("acme"), ["tasks:read", "tasks:submit", "tasks:admin"]))
    for path in ("/concurrency-keys/k", "/task-types/tests.echo"):
        assert reader.patch(path, {}).json()["code"] == "scope_missing"


def test_a_strategy_is_stored_shown_and_taken_over_by_a_rerun(api: Api) -> None:
    body = {"type": "tests.echo", "concurrency_strategy": "keep_latest", **KEY}
    task = api.post("/tasks", body).json()
    assert task["concurrency_strategy"] == "keep_latest"
    again = api.post(f"/tasks/{task['id']}/rerun", {}).json()
    assert again["concurrency_strategy"] == "keep_latest"
    assert api.post("/tasks", {"type": "tests.echo"}).json()["concurrency_strategy"] == "queue"


def test_the_rate_of_a_type_is_told_with_the_time_of_the_next_token(
    api: Api, rated_type: str
) -> None:
    tenant = make_tenant("acme")
    first, second = (make_task(tenant, type=rated_type) for _ in range(2))
    assert run_dispatcher() == 1
    assert waiting(api, first) == []
    (why,) = waiting(api, second)
    until = datetime.fromisoformat(why.pop("until"))
    assert why == {"reason": "rate_limit", "of": "type", "name": rated_type, "rate": "1/h"}
    assert timedelta(minutes=59) < until - datetime.now(tz=UTC) <= timedelta(hours=1)
    shown = api.get(f"/task-types/{rated_type}").json()["limits"]
    assert (shown["concurrency"], shown["rate"], shown["used"]) == (5, "1/h", 1)
    assert datetime.fromisoformat(shown["rate_until"]) == until
    changed = api.patch(f"/task-types/{rated_type}", {"rate": "2/h", "concurrency": 1}).json()
    limits = changed["limits"]
    assert (limits["rate"], limits["set_rate"], limits["rate_until"]) == ("2/h", "2/h", None)
    (why,) = [one for one in waiting(api, second) if one["reason"] == "concurrency_limit"]
    assert (why["key"], why["type"], why["holders"]) == (None, rated_type, [str(first)])
    back = api.patch(f"/task-types/{rated_type}", {"rate": None, "concurrency": None}).json()
    assert (back["limits"]["rate"], back["limits"]["concurrency"]) == ("1/h", 5)


def test_the_rate_of_a_queue_is_told(api: Api) -> None:
    task_id = make_task(make_tenant("acme"))
    api.post("/queues", {"name": "default", "rate": "1/h"})
    assert api.get("/queues/default").json()["rate"] == "1/h"
    assert waiting(api, task_id) == []
    now = datetime.now(tz=UTC).timestamp()
    Queue.objects.filter(name="default").update(spent=[[now, now, 1]])
    (why,) = waiting(api, task_id)
    assert (why["reason"], why["of"], why["name"]) == ("rate_limit", "queue", "default")


def test_operators_set_limits_in_the_admin_without_giving_tokens_back(
    staff: Callable[..., Client],
) -> None:
    operator = staff("view_limit", "add_limit", "change_limit", "view_queue", "change_queue")
    board = "/admin/tasks_app/limit/"
    wrong = {"of": "type", "name": "tests.echo", "rate": "often"}
    assert "10/min" in operator.post(f"{board}add/", wrong).content.decode()
    assert operator.post(f"{board}add/", wrong | {"rate": "3/min"}).status_code == 302
    row = Limit.objects.get(name="tests.echo")
    assert row.changed_by.startswith("admin:staff-")
    Limit.objects.filter(id=row.id).update(spent=[[1.0, 1.0, 1]])
    Queue.objects.create(name="default", spent=[[1.0, 1.0, 1]])
    assert operator.post(f"{board}{row.id}/change/", {"concurrency": "4"}).status_code == 302
    row.refresh_from_db()
    assert (row.concurrency, row.rate, row.spent) == (4, None, [[1.0, 1.0, 1]])
    page = "/admin/tasks_app/queue/default/change/"
    assert operator.post(page, {"order": "newest", "rate": "5/min"}).status_code == 302
    assert Queue.objects.get(name="default").rate == "5/min"
    assert "tests.echo" in operator.get(board).content.decode()
    assert Task.objects.count() == 0
