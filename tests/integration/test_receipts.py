"""What a key that may act on tasks and not read them is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tasks_app.models import Tenant
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api
from tests.integration.openapi_contract import Contract

pytestmark = pytest.mark.django_db
RECEIPT = {"id", "status", "state", "done", "version", "links"}
SECRET = {"payload": {"secret": "s3cret"}, "metadata": {"m": "s3cret"}, "tags": ["s3cret"]}
ECHO = {"type": "tests.echo", "payload": {"text": "hello"}}


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def submitter(tenant: Tenant) -> Api:
    return Api(make_key(tenant, ["tasks:submit"]))


@pytest.fixture
def canceller(tenant: Tenant) -> Api:
    return Api(make_key(tenant, ["tasks:cancel"]))


@pytest.fixture
def reader(tenant: Tenant) -> Api:
    return Api(make_key(tenant, ["tasks:submit", "tasks:cancel", "tasks:read"]))


def receipt(name: str, answer: Any, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, answer.content
    Contract().check_answer(name, answer)
    shown: dict[str, Any] = answer.json()
    assert set(shown) == RECEIPT
    assert b"s3cret" not in answer.content
    assert answer.headers["ETag"] == f'"{shown["version"]}"'
    return shown


def test_the_task_that_holds_a_key_is_shown_to_readers_alone(submitter: Api, reader: Api) -> None:
    unique = {"unique": {"key": "k"}}
    made = reader.post("/tasks", ECHO | unique | {"metadata": {"m": "s3cret"}}).json()
    for more in ({}, {"Prefer": "wait=1"}):
        found = receipt("submit_task", submitter.post("/tasks", ECHO | unique, **more), 200)
        assert found["id"] == made["id"]
    assert reader.post("/tasks", ECHO | unique).json()["metadata"] == {"m": "s3cret"}


def test_a_debounced_task_is_shown_to_readers_alone(submitter: Api, reader: Api) -> None:
    debounce = {"debounce": {"key": "k", "wait": 60, "max_wait": 600}}
    reader.post("/tasks", ECHO | debounce | {"webhook_url": "https://example.org/s3cret"})
    receipt("submit_task", submitter.post("/tasks", ECHO | debounce), 200)


def test_who_submits_sees_what_it_submitted(submitter: Api) -> None:
    first = submitter.post("/tasks", ECHO, Idempotency_Key="a")
    again = submitter.post("/tasks", ECHO, Idempotency_Key="a")
    for answer in (first, again):
        assert answer.json()["payload"] == ECHO["payload"]
        assert answer.json()["watch"]["token"]


def test_a_copy_is_shown_to_readers_alone_and_watched_by_them(
    submitter: Api, reader: Api, tenant: Tenant
) -> None:
    path = f"/tasks/{make_task(tenant, **SECRET)}/rerun"
    receipt("rerun_task", submitter.post(path), 202)
    shown = reader.post(path, Idempotency_Key="a").json()
    assert (shown["payload"], "watch" in shown) == (SECRET["payload"], True)
    receipt("rerun_task", submitter.post(path, Idempotency_Key="a"), 202)


def test_a_changed_and_a_retried_task_are_shown_to_readers_alone(
    submitter: Api, reader: Api, tenant: Tenant
) -> None:
    path = f"/tasks/{make_task(tenant, **SECRET)}"
    receipt("revise_task", submitter.patch(path, {"priority": 3}), 200)
    assert reader.patch(path, {"priority": 4}).json()["tags"] == ["s3cret"]
    path = f"/tasks/{make_task(tenant, state='failed', **SECRET)}/retry"
    assert reader.post(path, {}, Idempotency_Key="a").json()["payload"] == SECRET["payload"]
    receipt("retry_task", submitter.post(path, {}, Idempotency_Key="a"), 202)
    path = f"/tasks/{make_task(tenant, state='failed', **SECRET)}/retry"
    receipt("retry_task", submitter.post(path), 202)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_cancelled_task_is_shown_to_readers_alone(
    state: str, canceller: Api, reader: Api, tenant: Tenant
) -> None:
    path = f"/tasks/{make_task(tenant, state=state, **SECRET)}"
    receipt("cancel_task", canceller.post(f"{path}/cancel"), 200, 202)
    receipt("delete_task", canceller.delete(path), 200, 202)
    assert reader.delete(path).json()["payload"] == SECRET["payload"]
