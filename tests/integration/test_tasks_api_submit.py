"""Submitting over HTTP: what is accepted, what is refused, and where the fault is said to be."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app.models import Task
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant, task_column
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db

KEYS = {
    "id", "type", "queue", "priority", "status", "state", "done", "version", "progress",
    "progress_message", "progress_detail", "attempt", "max_retry", "created_at", "updated_at",
    "run_at", "started_at", "finished_at", "queue_timeout", "process_timeout",
    "cancel_requested_at", "payload", "metadata", "tags", "result", "error", "concurrency_key",
    "max_concurrency", "concurrency_strategy", "fair_key", "waiting", "retry_of", "schedule",
    "parent", "root", "depth", "worker", "links",
}  # fmt: skip


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("acme")))


def test_a_submission_is_answered_with_the_task_object_and_where_to_find_it(api: Api) -> None:
    response = api.post("/tasks", {"type": "tests.order", "payload": {"order_id": 4}})
    task = response.json()
    assert response.status_code == 202
    watch = task.pop("watch")
    assert set(watch) == {"token", "expires_at", "stream_url", "ws_url"}
    assert set(task) == KEYS
    assert response.headers["Location"] == f"/api/v1/tasks/{task['id']}"
    assert response.headers["Retry-After"] == "1"
    assert response.headers["ETag"] == '"1"'
    assert api.get(response.headers["Location"]).json() | {"waiting": None} == task
    assert (task["status"], task["state"], task["done"]) == ("pending", "queued", False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"payload": {"a": [1.50, 2e-7, 12345678901234567890, "ä\u2028"], "b": {"z": 1, "a": None}}},
        {"delay": 60, "tags": ["vip", "eu"], "metadata": {"b": 1, "a": 2}, "queue_timeout": 9},
        {"concurrency_key": "k", "max_concurrency": 2, "concurrency_strategy": "keep_latest"},
        {"unique": {"key": "k", "while": "ttl", "ttl": 60}, "fair_key": "f"},
        {"debounce": {"key": "k", "wait": 5, "max_wait": 60}, "run_at": None},
        {"retry": {"policy": "fixed", "delay": 2}, "webhook_url": "https://example.org/a"},
    ],
)
def test_the_answer_to_a_submission_is_the_task_as_it_is_read(
    api: Api, options: dict[str, Any]
) -> None:
    answer = api.post("/tasks", {"type": "tests.echo"} | options)
    answered, read = answer.content, api.get(answer.headers["Location"]).content
    assert answered[: answered.index(b'"waiting":')] == read[: read.index(b'"waiting":')]
    assert orjson.loads(answered)["links"] == orjson.loads(read)["links"]


def test_a_submission_and_its_answer_take_one_statement(
    api: Api, django_assert_num_queries: Any
) -> None:
    api.post("/tasks", {"type": "tests.echo"})
    with django_assert_num_queries(1):
        assert api.post("/tasks", {"type": "tests.echo"}).status_code == 202


def test_a_bulk_of_large_payloads_is_stored_by_statements_of_a_bounded_size(api: Api) -> None:
    large = {"type": "tests.echo", "payload": {"text": "x" * 600_000}}
    with CaptureQueriesContext(connection) as captured:
        answer = api.post("/tasks/bulk", {"items": [large] * 8, "atomic": True})
    assert answer.json()["accepted"] == 8
    assert Task.objects.count() == 8
    assert max(len(one["sql"]) for one in captured.captured_queries) < 2_100_000


def test_defaults_come_from_the_platform_then_the_type_then_the_submission(api: Api) -> None:
    of_type = api.post("/tasks", {"type": "tests.order", "payload": {"order_id": 4}}).json()
    names = ("queue", "priority", "max_retry", "process_timeout", "queue_timeout")
    assert [of_type[name] for name in names] == ["orders", 7, 1, 30, 90]
    platform = api.post("/tasks", {"type": "tests.echo"}).json()
    assert [platform[name] for name in names] == ["default", 0, 3, 600, None]
    chosen = {"queue": "fast", "priority": -3, "max_retry": 0, "process_timeout": 5}
    body = {"type": "tests.order", "payload": {"order_id": 1}, "queue_timeout": 6} | chosen
    own = api.post("/tasks", body).json()
    assert [own[name] for name in names] == ["fast", -3, 0, 5, 6]


def test_the_submission_of_xqueue_is_accepted_as_it_stands(api: Api) -> None:
    body = {
        "type": "tests.echo",
        "payload": {"data": "value"},
        "priority": 5,
        "max_retry": 2,
        "queue_timeout": 300,
        "process_timeout": 60,
        "concurrency_key": "user_123",
        "max_concurrency": 5,
    }
    response = api.post("/tasks", body)
    assert response.status_code == 202
    assert {name: response.json()[name] for name in body} == body


def test_every_option_is_stored(api: Api) -> None:
    body = {
        "type": "tests.echo",
        "payload": {"a": [1, None, "ä"]},
        "metadata": {"tenant": "x", "deep": {"er": 1}},
        "tags": ["vip", "vip", "eu"],
        "webhook_url": "https://example.org/a",
        "webhook_urls": ["https://example.org/b", "https://example.org/a"],
        "retry": {"policy": "exponential", "delay": 2, "factor": 3, "max_delay": 9.5},
        "unique": {"key": "k1", "while": "active", "on_conflict": "reject"},
        "run_at": "2030-01-01T00:00:00+02:00",
    }
    task = api.post("/tasks", body, traceparent=f"00-{'a' * 32}-{'b' * 16}-01").json()
    row = Task.objects.get(id=task["id"])
    assert task["payload"] == body["payload"]
    assert task["metadata"] == body["metadata"]
    assert task["tags"] == ["vip", "eu"]
    assert row.webhook_urls == ["https://example.org/a", "https://example.org/b"]
    assert row.retry_policy == {"policy": "exponential", "delay": 2, "factor": 3, "max_delay": 9.5}
    assert row.unique_key == "k1"
    assert task["run_at"] == "2029-12-31T22:00:00Z"
    assert task["state"] == "scheduled"
    assert row.traceparent == f"00-{'a' * 32}-{'b' * 16}-01"
    assert row.submitted_by.startswith("api:")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"prority": 1}, "/prority"),
        ({"tenant_id": 2}, "/tenant_id"),
        ({"state": "success"}, "/state"),
        ({"epoch": 5}, "/epoch"),
        ({"result": {}}, "/result"),
        ({"priority": 1001}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"max_retry": -1}, "/max_retry"),
        ({"max_retry": 1001}, "/max_retry"),
        ({"queue_timeout": 0}, "/queue_timeout"),
        ({"process_timeout": 604_801}, "/process_timeout"),
        ({"process_timeout": 1.5}, "/process_timeout"),
        ({"delay": -0.1}, "/delay"),
        ({"delay": 31_536_001}, "/delay"),
        ({"delay": 1, "run_at": "2030-01-01T00:00:00Z"}, "/run_at"),
        ({"run_at": "2030-01-01T00:00:00"}, "/run_at"),
        ({"run_at": 1893456000}, "/run_at"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": {"a": "x" * 65_536}}, "/metadata"),
        ({"tags": ["x"] * 51}, "/tags"),
        ({"tags": ["ok", "x" * 65]}, "/tags/1"),
        ({"tags": "vip"}, "/tags"),
        ({"queue": "No Spaces"}, "/queue"),
        ({"queue": "x" * 101}, "/queue"),
        ({"concurrency_key": "k"}, "/max_concurrency"),
        ({"max_concurrency": 1}, "/concurrency_key"),
        ({"concurrency_key": "k", "max_concurrency": 0}, "/max_concurrency"),
        ({"concurrency_key": "k" * 201, "max_concurrency": 1}, "/concurrency_key"),
        ({"webhook_url": "ftp://example.org"}, "/webhook_url"),
        ({"webhook_url": "/relative"}, "/webhook_url"),
        ({"webhook_url": "https://169.254.169.254/latest"}, "/webhook_url"),
        ({"webhook_urls": ["https://e.org/", "http://2130706433/"]}, "/webhook_urls/1"),
        ({"webhook_urls": ["https://e.org/"] * 11}, "/webhook_urls"),
        ({"unique": {"key": "k", "ttl": 5}}, "/unique/ttl"),
        ({"unique": {"while": "active"}}, "/unique/key"),
        ({"retry": {"policy": "custom"}}, "/retry/policy"),
        ({"retry": {"policy": "fixed", "delay": -1}}, "/retry/delay"),
        ({"retry": {"policy": "exponential", "factor": 11}}, "/retry/factor"),
        ({"retry": {"policy": "fixed", "jitter": "wild"}}, "/retry/jitter"),
        ({"type": 5}, "/type"),
    ],
)
def test_a_wrong_field_is_refused_with_its_pointer_and_nothing_is_stored(
    api: Api, change: dict[str, Any], pointer: str
) -> None:
    response = api.post("/tasks", {"type": "tests.echo"} | change)
    assert response.status_code == 422
    assert pointers(response) == [pointer]
    assert not Task.objects.exists()


def test_a_naive_instant_is_refused_with_the_way_to_write_it(api: Api) -> None:
    body = {"type": "tests.echo", "run_at": "2030-01-01T00:00:00"}
    assert "timezone" in api.post("/tasks", body).json()["errors"][0]["detail"]


def test_a_payload_that_does_not_fit_the_handler_is_refused_with_pointers(api: Api) -> None:
    payload = {"order_id": -1, "items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 0}]}
    response = api.post("/tasks", {"type": "tests.order", "payload": payload})
    assert response.status_code == 422
    assert pointers(response) == ["/payload/order_id", "/payload/items/1/count"]
    empty = api.post("/tasks", {"type": "tests.order"})
    assert pointers(empty) == ["/payload/order_id"]
    full = api.post("/tasks", {"type": "tests.nothing", "payload": {"a": 1}})
    assert pointers(full) == ["/payload"]


def test_an_unknown_type_is_a_404_of_its_own(api: Api) -> None:
    response = api.post("/tasks", {"type": "no.such"})
    assert (response.status_code, response.json()["code"]) == (404, "unknown_task_type")


def test_a_payload_over_the_limit_is_a_413(api: Api) -> None:
    response = api.post("/tasks", {"type": "tests.echo", "payload": {"a": "x" * 1_048_576}})
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type": "tests.echo", "payload": {"a": "\\u0000"}}',
        b'{"type": "tests.echo", "payload": {"\\u0000": 1}}',
        b'{"type": "tests.echo", "payload": {"a": NaN}}',
        b'{"type": "tests.echo", "payload": {"a": 1e400}}',
        b'{"type": "tests.echo", "payload": {"a": "\\ud800"}}',
        b'{"type": "tests.echo", "payload": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"{",
        b'["type"]',
        b"null",
        b'"text"',
    ],
)
def test_what_is_no_storable_json_is_refused_as_the_callers_fault(api: Api, raw: bytes) -> None:
    response = api.post("/tasks", raw)
    assert response.status_code in {400, 422}, response.content
    assert not Task.objects.exists()


def test_a_delay_is_counted_by_the_database(api: Api) -> None:
    task = api.post("/tasks", {"type": "tests.echo", "delay": 90.5}).json()
    row = Task.objects.get(id=task["id"])
    assert (row.run_at - row.created_at).total_seconds() == 90.5
    assert task["state"] == "scheduled"


def test_a_unique_key_gives_the_live_task_or_a_409_with_its_id(api: Api) -> None:
    body = {"type": "tests.echo", "unique": {"key": "daily"}}
    first = api.post("/tasks", body)
    again = api.post("/tasks", body)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    body["unique"] = {"key": "daily", "on_conflict": "reject"}
    refused = api.post("/tasks", body)
    assert (refused.status_code, refused.json()["code"]) == (409, "duplicate_task")
    assert refused.json()["task_id"] == first.json()["id"]
    api.delete(f"/tasks/{first.json()['id']}")
    assert api.post("/tasks", body).status_code == 202


def test_unique_keys_of_two_tenants_do_not_meet(api: Api) -> None:
    body = {"type": "tests.echo", "unique": {"key": "daily", "on_conflict": "reject"}}
    other = Api(make_key(make_tenant("other")))
    assert [one.post("/tasks", body).status_code for one in (api, other)] == [202, 202]


def test_an_idempotency_key_replays_the_first_answer(api: Api) -> None:
    body = {"type": "tests.echo", "payload": {"n": 1}}
    first = api.post("/tasks", body, Idempotency_Key="k1")
    again = api.post("/tasks", body, Idempotency_Key="k1")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.status_code, again.json()) == (202, first.json())
    assert api.post("/tasks", {"type": "tests.echo"}, Idempotency_Key="k1").status_code == 422
    assert Task.objects.count() == 1


def test_a_typed_submission_takes_the_payload_as_the_body_and_options_as_parameters(
    api: Api,
) -> None:
    path = "/task-types/tests.order/tasks?priority=9&tags=a&tags=b&delay=1.5&max_retry=0"
    task = api.post(path, {"order_id": 1}).json()
    assert (task["type"], task["payload"]) == ("tests.order", {"order_id": 1})
    assert (task["priority"], task["tags"], task["max_retry"]) == (9, ["a", "b"], 0)
    assert task["state"] == "scheduled"
    wrong = api.post("/task-types/tests.order/tasks?priority=many", {"order_id": 1})
    assert pointers(wrong) == ["/query/priority"]
    unknown = api.post("/task-types/tests.order/tasks?colour=red", {"order_id": 1})
    assert pointers(unknown) == ["/query/colour"]
    assert pointers(api.post("/task-types/tests.order/tasks", {})) == ["/payload/order_id"]
    assert api.post("/task-types/no.such/tasks", {}).json()["code"] == "unknown_task_type"


def test_a_bulk_submission_takes_every_item_in_order(api: Api) -> None:
    items = [{"type": "tests.echo", "payload": {"n": n}} for n in range(2500)]
    response = api.post("/tasks/bulk", {"items": items})
    body = response.json()
    assert (response.status_code, body["accepted"], body["rejected"]) == (202, 2500, 0)
    stored = Task.objects.in_bulk([uuid.UUID(result["id"]) for result in body["results"]])
    payloads = [stored[uuid.UUID(result["id"])].payload["n"] for result in body["results"]]
    assert payloads == list(range(2500))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"priority": 3},
    {"priority": 3, "queue": "other"},
    {"max_retry": 0, "process_timeout": 5, "queue_timeout": 7},
    {"tags": ["a"]},
    {"tags": ["a", "b"]},
    {"metadata": {"of": 1}},
    {"metadata": {"of": 2}},
    {"unique": {"key": "KEY"}},
    {"unique": {"key": "KEY", "while": "ttl", "ttl": 60}},
    {"debounce": {"key": "KEY", "wait": 5, "max_wait": 60}},
    {"concurrency_key": "k", "max_concurrency": 2},
    {"concurrency_key": "k", "max_concurrency": 2, "concurrency_strategy": "cancel_newest"},
    {"fair_key": "f"},
    {"delay": 60},
    {"run_at": "2099-01-01T00:00:00Z"},
    {"retry": {"policy": "never"}},
    {"webhook_urls": ["https://example.org/a"]},
    {"webhook_url": "https://example.org/b"},
]
DIFFERS = {"id", "tenant_id", "created_at", "updated_at", "run_at", "queued_at", "queue_deadline"}
DIFFERS |= {"debounce_until", "submitted_by"}


def test_each_item_of_a_bulk_submission_is_stored_as_if_it_came_alone(api: Api) -> None:
    items = [
        {"type": "tests.echo", "payload": {"round": number}}
        | orjson.loads(orjson.dumps(options).replace(b"KEY", b"%d" % (number * 100 + place)))
        for number in range(3)
        for place, options in enumerate(OPTIONS)
    ]
    several = api.post("/tasks/bulk", {"items": items}).json()
    assert several["accepted"] == len(items)
    other = Api(make_key(make_tenant("other")))
    for item, of_many in zip(items, several["results"], strict=True):
        alone = other.post("/tasks", item).json()
        rows = [Task.objects.filter(id=one["id"]).values().get() for one in (of_many, alone)]
        for row in rows:
            row["is_late"] = row["run_at"] > row["created_at"]
        one, two = ({name: row[name] for name in row.keys() - DIFFERS} for row in rows)
        assert one == two, item


def test_a_bulk_submission_tells_what_became_of_each_item(api: Api) -> None:
    live = str(make_task(make_tenant("acme"), unique_key="u"))
    items = [
        {"type": "tests.echo"},
        {"type": "tests.order", "payload": {"order_id": -1}},
        {"type": "no.such"},
        {"type": "tests.echo", "unique": {"key": "u"}},
        {"type": "tests.echo", "unique": {"key": "u", "on_conflict": "reject"}},
        {"type": "tests.echo", "colour": "red"},
        {"type": "tests.echo", "unique": {"key": "v"}},
        {"type": "tests.echo", "unique": {"key": "v"}},
        "nonsense",
    ]
    response = api.post("/tasks/bulk", {"items": items})
    results = response.json()["results"]
    statuses = [result["status"] for result in results]
    assert response.status_code == 207
    assert statuses == [202, 422, 404, 200, 409, 422, 202, 200, 422]
    assert results[1]["errors"][0]["pointer"] == "/items/1/payload/order_id"
    assert results[3]["id"] == results[4]["id"] == live
    assert results[5]["errors"][0]["pointer"] == "/items/5/colour"
    assert results[6]["id"] == results[7]["id"]
    assert Task.objects.count() == 3


def test_an_atomic_bulk_submission_stores_all_or_nothing(api: Api) -> None:
    make_task(make_tenant("acme"), unique_key="u")
    items: list[dict[str, Any]] = [
        {"type": "tests.echo"},
        {"type": "tests.order", "payload": {"order_id": -1}},
        {"type": "no.such"},
    ]
    response = api.post("/tasks/bulk", {"items": items, "atomic": True})
    assert response.status_code == 422
    assert pointers(response) == ["/items/1/payload/order_id", "/items/2"]
    late = {"type": "tests.echo", "unique": {"key": "u", "on_conflict": "reject"}}
    refused = api.post("/tasks/bulk", {"items": [items[0], late], "atomic": True})
    assert (refused.status_code, pointers(refused)) == (422, ["/items/1"])
    assert Task.objects.count() == 1
    taken = api.post("/tasks/bulk", {"items": [items[0]] * 3, "atomic": True})
    assert (taken.status_code, Task.objects.count()) == (202, 4)


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": [{}] * 10_001}, {"items": "x"}])
def test_a_bulk_submission_without_a_sound_list_is_refused(api: Api, body: Any) -> None:
    assert pointers(api.post("/tasks/bulk", body)) == ["/items"]


def test_submitting_needs_its_scope(api: Api) -> None:
    reader = Api(make_key(make_tenant("acme"), scopes=["tasks:read"]))
    for path in ("/tasks", "/tasks/bulk", "/task-types/tests.echo/tasks"):
        assert reader.post(path, {}).status_code == 403


def test_a_rerun_is_a_new_task_like_the_old_one(api: Api) -> None:
    body = {
        "type": "tests.order",
        "payload": {"order_id": 3},
        "tags": ["vip"],
        "metadata": {"a": 1},
        "priority": 2,
        "retry": {"policy": "never"},
        "unique": {"key": "once"},
    }
    old = api.post("/tasks", body).json()
    response = api.post(f"/tasks/{old['id']}/rerun")
    new = response.json()
    assert response.status_code == 202
    assert (new["retry_of"], new["id"] != old["id"]) == (old["id"], True)
    for name in ("type", "payload", "tags", "metadata", "priority", "queue"):
        assert new[name] == old[name]
    assert task_column(uuid.UUID(new["id"]), "retry_policy ->> 'policy'") == "never"
    other = api.post(f"/tasks/{old['id']}/rerun", {"payload": {"order_id": 8}}).json()
    assert other["payload"] == {"order_id": 8}
    wrong = api.post(f"/tasks/{old['id']}/rerun", {"payload": {"order_id": -8}})
    assert pointers(wrong) == ["/payload/order_id"]


@pytest.mark.parametrize(
    ("instant", "stored"),
    [("2099-01-01T00:00:00+22:07", "2098-12-31T01:53:00Z"), ("0306-02-01T00:00:00-16:44", None)],
)
def test_an_instant_may_have_any_offset(api: Api, instant: str, stored: str | None) -> None:
    answer = api.post("/tasks", {"type": "tests.echo", "run_at": instant})
    assert answer.status_code == 202
    assert stored in {None, answer.json()["run_at"]}
    changed = api.patch(f"/tasks/{answer.json()['id']}", {"run_at": instant})
    assert changed.status_code == 200
    body = {"finished_before": instant}
    assert api.post("/dead-letters/retry", body).status_code == 202


@pytest.mark.parametrize("instant", ["9999-12-31T23:59:59-10:00", "9999-01-01T00:00:00Z"])
def test_an_instant_that_the_store_cannot_hold_is_refused(api: Api, instant: str) -> None:
    answer = api.post("/tasks", {"type": "tests.echo", "run_at": instant})
    assert answer.status_code == 422
    assert pointers(answer) == ["/run_at"]
