"""Idempotency-Key: one effect, one answer, replayed."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from django.db import connection
from django.urls import resolve

from notifications.models import WebhookEndpoint
from scheduler.models import Schedule
from tasks_app.api.idempotency import IdempotentPost
from tasks_app.api.schema import openapi_document
from tasks_app.models import Event, IdempotencyRecord, PacedRetry, Task
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db
BODY = {"type": "tests.order", "payload": {"order_id": 4}}


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("acme")))


def test_a_replay_is_given_the_first_answer_and_makes_nothing(api: Api) -> None:
    first = api.post("/tasks", BODY, Idempotency_Key="a")
    turned = {key: BODY[key] for key in reversed(BODY)}
    again = api.post("/tasks", turned, Idempotency_Key="a")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert Task.objects.count() == 1


def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    api.post("/tasks", BODY, Idempotency_Key="a")
    other = api.post("/tasks", BODY | {"priority": 1}, Idempotency_Key="a")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_another_query_under_the_same_key_is_refused(api: Api) -> None:
    path = "/task-types/tests.order/tasks"

    def post(query: str) -> tuple[int, str | None]:
        answer = api.post(f"{path}?{query}", {"order_id": 4}, Idempotency_Key="a")
        return answer.status_code, answer.json().get("code")

    assert post("priority=2&tags=a&tags=b") == (202, None)
    assert post("tags=a&tags=b&priority=2") == (202, None)
    for other in ("priority=3&tags=a&tags=b", "priority=2&tags=b&tags=a", ""):
        assert post(other) == (422, "idempotency_mismatch")
    assert Task.objects.count() == 1


def test_a_refused_request_leaves_its_key_free(api: Api) -> None:
    wrong = api.post("/tasks", {"type": "no.such", "payload": {}}, Idempotency_Key="a")
    assert wrong.status_code == 404
    assert not IdempotencyRecord.objects.exists()
    assert api.post("/tasks", BODY, Idempotency_Key="a").status_code == 202


def test_keys_of_two_tenants_and_of_two_paths_do_not_meet(api: Api) -> None:
    other = Api(make_key(make_tenant("other")))
    ids = {
        api.post("/tasks", BODY, Idempotency_Key="a").json()["id"],
        other.post("/tasks", BODY, Idempotency_Key="a").json()["id"],
        api.post("/task-types/tests.order/tasks", {"order_id": 4}, Idempotency_Key="a").json()[
            "id"
        ],
    }
    assert len(ids) == 3


def test_a_key_is_free_again_after_its_time(api: Api) -> None:
    first = api.post("/tasks", BODY, Idempotency_Key="a").json()["id"]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_idempotency SET expires_at = taskmill_now()")
    assert api.post("/tasks", BODY | {"priority": 1}, Idempotency_Key="a").json()["id"] != first


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
def test_a_key_that_cannot_be_stored_is_refused(api: Api, key: str) -> None:
    assert api.post("/tasks", BODY, Idempotency_Key=key).status_code == 422


def _schedule(api: Api) -> str:
    body = {"key": "k", "type": "tests.order", "payload": {"order_id": 4}, "interval_seconds": 3600}
    return str(api.post("/schedules", body).json()["id"])


def _failed(_: Api) -> uuid.UUID:
    return make_task(make_tenant("acme"), state="failed", type="tests.order")


Made = tuple[str, dict[str, Any], Callable[[], int]]


def _retry(api: Api) -> Made:
    task_id = _failed(api)
    return f"/tasks/{task_id}/retry", {}, lambda: redriven(task_id)


def _retry_dead_letters(api: Api) -> Made:
    task_id = _failed(api)
    return "/dead-letters/retry", {"ids": [str(task_id)]}, lambda: redriven(task_id)


def _retry_failed(api: Api) -> Made:
    task_id = _failed(api)
    return "/queues/default/retry-failed", {}, lambda: redriven(task_id)


def _retry_at_a_pace(api: Api) -> Made:
    _failed(api)
    body = {"type": "tests.order", "per_second": 1}
    return "/dead-letters/retries", body, PacedRetry.objects.count


def _make_schedule(_: Api) -> Made:
    body = {"key": "k", "type": "tests.order", "payload": {"order_id": 4}, "interval_seconds": 3600}
    return "/schedules", body, lambda: Schedule.objects.filter(key="k").count()


def _run_schedule(api: Api) -> Made:
    return f"/schedules/{_schedule(api)}/run", {}, Task.objects.count


def _make_webhook(_: Api) -> Made:
    return "/webhooks", {"url": "http://127.0.0.1:9/x"}, WebhookEndpoint.objects.count


def redriven(task_id: uuid.UUID) -> int:
    return Event.objects.filter(task_id=task_id, type="task.redriven").count()


@pytest.mark.parametrize(
    "case",
    [
        _retry,
        _retry_dead_letters,
        _retry_failed,
        _retry_at_a_pace,
        _make_schedule,
        _run_schedule,
        _make_webhook,
    ],
)
def test_what_would_be_done_twice_is_done_once(
    api: Api, case: Callable[[Api], Made], local_receivers: None
) -> None:
    path, body, effects = case(api)
    first = api.post(path, body, Idempotency_Key="a")
    again = api.post(path, body, Idempotency_Key="a")
    assert first.status_code in {201, 202}, first.content
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    for name in ("Location", "ETag", "Retry-After"):
        assert again.headers.get(name) == first.headers.get(name)
    assert effects() == 1
    if "/retry" in path:
        other = api.post(path, {"payload": {"order_id": 9}}, Idempotency_Key="a")
        assert other.status_code == 422, other.content


def test_the_secret_of_a_webhook_is_replayed_and_not_stored(
    api: Api, local_receivers: None
) -> None:
    body = {"url": "http://127.0.0.1:9/x"}
    first = api.post("/webhooks", body, Idempotency_Key="a").json()
    assert first["secret"].startswith("whsec_")
    [record] = IdempotencyRecord.objects.all()
    assert "secret" not in record.response_body
    assert first["secret"] not in str(record.response_body)
    assert api.post("/webhooks", body, Idempotency_Key="a").json() == first
    assert api.delete(f"/webhooks/{first['id']}").status_code == 204
    assert api.post("/webhooks", body, Idempotency_Key="a").status_code == 404


def test_the_document_names_the_header_exactly_where_it_is_honoured() -> None:
    document = orjson.loads(openapi_document())
    named = {
        path
        for path, methods in document["paths"].items()
        for one in methods.values()
        if any(each["name"] == "Idempotency-Key" for each in one.get("parameters", []))
    }
    honoured = {
        path
        for path in document["paths"]
        if issubclass(
            resolve(re.sub(r"{\w+}", str(uuid.uuid4()), path)).func.cls,  # type: ignore[attr-defined]
            IdempotentPost,
        )
    }
    assert named == honoured
    assert {"/api/v1/webhooks", "/api/v1/schedules", "/api/v1/tasks/{task_id}/retry"} <= named
