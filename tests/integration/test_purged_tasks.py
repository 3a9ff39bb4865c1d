"""A task that was purged is told as gone: 410, for its tenant alone and for a time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tasks_app.maintenance.prune import PruneRecords, PruneTasks
from tasks_app.maintenance.step import StepTurn
from tasks_app.models import PurgedTask, Tenant
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import drive, make_key, make_task, make_tenant
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db
ECHO = {"type": "tests.echo", "payload": {"text": "hello"}}


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def clean(api: Api) -> None:
    body = {"grace_period": 0, "status": "success"}
    assert api.post("/queues/default/clean", body).json() == {"count": 1}


def purge(api: Api) -> None:
    assert api.post("/dead-letters/purge", {"type": "tests.echo"}).json() == {"count": 1}


def retain(_: Api) -> None:
    with connection.cursor() as cursor:
        step = PruneTasks("t", dead=False, retention_days=0)
        cursor.execute("SET LOCAL taskmill.clock_offset = '1 s'")
        assert step.run_once(cursor, StepTurn(now=0.0, healthy_seconds=0.0)).count == 1


@pytest.mark.parametrize(
    ("state", "leave"), [("success", clean), ("failed", purge), ("success", retain)]
)
def test_a_purged_task_is_gone_for_its_tenant_and_unknown_to_others(
    state: str, leave: Callable[[Api], None], api: Api, tenant: Tenant
) -> None:
    path = f"/tasks/{make_task(tenant, state=state)}"
    leave(api)
    for method, below in [
        ("GET", ""),
        ("GET", "/result"),
        ("GET", "/events"),
        ("GET", "/stream"),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/retry"),
        ("POST", "/rerun"),
        ("POST", "/webhooks"),
    ]:
        answer = api.call(method, path + below, {} if method != "GET" else None)
        assert (answer.status_code, answer.json()["code"]) == (410, "task_purged"), below
    assert Api(make_key(make_tenant("other"))).get(path).status_code == 404
    assert api.get(f"/tasks/{uuid.uuid4()}").status_code == 404


def test_a_replay_is_the_first_answer_though_its_task_was_purged(api: Api) -> None:
    first = api.post("/tasks", ECHO, Idempotency_Key="a")
    drive(uuid.UUID(first.json()["id"]), "success")
    clean(api)
    for more in ({}, {"Prefer": "wait=1"}):
        again = api.post("/tasks", ECHO, Idempotency_Key="a", **more)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["Idempotency-Replayed"] == "true"
    assert api.get(first.headers["Location"]).status_code == 410


def test_that_a_task_was_there_is_forgotten_after_the_retention(api: Api, tenant: Tenant) -> None:
    path = f"/tasks/{make_task(tenant, state='success')}"
    clean(api)
    step: Any = PruneRecords(stale_days=1)
    with connection.cursor() as cursor:
        step.run_once(cursor, None)
        assert api.get(path).status_code == 410
        cursor.execute("SET LOCAL taskmill.clock_offset = '2 days'")
        assert step.run_once(cursor, None).count >= 1
    assert not PurgedTask.objects.exists()
    assert api.get(path).status_code == 404
