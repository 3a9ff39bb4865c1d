"""Idempotency-Key: one effect, one answer, replayed."""

from __future__ import annotations

import pytest
from django.db import connection

from tasks_app.models import IdempotencyRecord, Task
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_tenant
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
