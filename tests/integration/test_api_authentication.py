"""Who may call: tokens, scopes, expiry, revocation."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from tasks_app.models import ApiKey, Task
from tasks_app.services.keys import (
    SCOPES,
    create_api_key,
    digest_of,
    forget_principals,
    revoke_api_key,
)
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_tenant
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
    forget_principals()


def status_of(token: str) -> int:
    return int(Api(token).get("/workers").status_code)


def test_only_the_digest_of_a_token_is_stored() -> None:
    key, token = create_api_key(tenant=make_tenant(), name="n", scopes=["tasks:read"])
    assert token.startswith(f"tm_live_{key.id}_")
    row = ApiKey.objects.filter(pk=key.pk).values().get()
    assert row["digest"] == digest_of(token)
    assert not any(token.rsplit("_", 1)[1] in str(value) for value in row.values())


@pytest.mark.parametrize(
    "header",
    ["", "Basic abc", "Bearer", "Bearer tm_live_x", "Bearer tm_live_aaaaaaaaaaaa_" + "a" * 32],
)
def test_a_missing_or_unknown_token_is_answered_401_with_a_challenge(header: str) -> None:
    response = Client().get("/api/v1/workers", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith('Bearer realm="taskmill"')
    assert response.json()["code"] == "not_authenticated"


def test_the_right_id_with_a_wrong_secret_is_refused() -> None:
    token = make_key()
    assert status_of(token) == 200
    assert status_of(token[:-1] + ("a" if token[-1] != "a" else "b")) == 401


def test_a_token_in_the_query_is_not_looked_at() -> None:
    assert Client().get(f"/api/v1/workers?token={make_key()}").status_code == 401


def test_an_expired_key_is_refused() -> None:
    token = make_key()
    sql("UPDATE taskmill_api_key SET expires_at = taskmill_now() - interval '1 s'")
    assert status_of(token) == 401


def test_a_revoked_key_is_refused_at_once_in_this_process() -> None:
    token = make_key()
    assert status_of(token) == 200
    assert revoke_api_key(key_id=token.split("_")[2])
    assert status_of(token) == 401
    assert not revoke_api_key(key_id=token.split("_")[2])


def test_a_revocation_elsewhere_is_in_force_within_the_cache_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tasks_app import clock
    from tasks_app.services import keys

    token = make_key()
    assert status_of(token) == 200
    with connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_api_key SET revoked_at = taskmill_now()")
    assert status_of(token) == 200
    now = clock.monotonic()
    monkeypatch.setattr(keys, "monotonic", lambda: now + 5.1)
    assert status_of(token) == 401


def test_the_keys_of_an_inactive_tenant_are_refused() -> None:
    token = make_key()
    sql("UPDATE taskmill_tenant SET is_active = false")
    assert status_of(token) == 401


def test_use_is_noted_at_most_once_a_minute() -> None:
    token = make_key()
    key_id = token.split("_")[2]
    status_of(token)
    first = ApiKey.objects.get(pk=key_id).last_used_at
    assert first is not None
    forget_principals()
    status_of(token)
    assert ApiKey.objects.get(pk=key_id).last_used_at == first
    sql("UPDATE taskmill_api_key SET last_used_at = last_used_at - interval '61 s'")
    status_of(token)
    last = ApiKey.objects.get(pk=key_id).last_used_at
    assert last is not None
    assert last >= first


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/workers", "tasks:read"),
        ("GET", "/stats", "tasks:read"),
        ("GET", "/dead-letters", "tasks:read"),
        ("POST", "/dead-letters/retry", "tasks:submit"),
        ("POST", "/dead-letters/purge", "tasks:admin"),
    ],
)
def test_each_call_needs_its_scope(method: str, path: str, scope: str) -> None:
    others = [one for one in SCOPES if one != scope]
    response = Api(make_key(scopes=others)).call(method, path)
    assert response.status_code == 403
    assert (response.json()["code"], response.json()["scope"]) == ("scope_missing", scope)
    assert Api(make_key(scopes=[scope])).call(method, path).status_code in {200, 422}


def test_task_types_of_the_platform_are_for_administrators() -> None:
    tenant = make_tenant()
    admin = Api(make_key(tenant))
    others = Api(make_key(tenant, [one for one in SCOPES if one != "tasks:admin"]))
    system: dict[str, Any] = {"type": "system.clean"}
    known = admin.post("/tasks", system)
    assert known.status_code == 202
    plain = {"key": "k", "type": "tests.echo", "payload": {"text": "a"}, "interval_seconds": 60}
    schedule = f"/schedules/{others.post('/schedules', plain).json()['id']}"
    for answer in (
        others.post("/tasks", system),
        others.post("/tasks", system, Idempotency_Key="a"),
        others.post("/task-types/system.clean/tasks", {}),
        others.post(f"{known.json()['links']['self']}/rerun"),
        others.post("/schedules", plain | system | {"key": "m"}),
        others.patch(schedule, system),
    ):
        assert answer.status_code == 403, answer.content
        problem = answer.json()
        assert (problem["code"], problem["scope"]) == ("scope_missing", "tasks:admin")
    items = [system, {"type": "tests.echo", "payload": {"text": "a"}}]
    found = others.post("/tasks/bulk", {"items": items}).json()["results"]
    assert [one["status"] for one in found] == [403, 202]
    assert Task.objects.filter(type="system.clean").count() == 1
    assert admin.post(f"{known.json()['links']['self']}/rerun").status_code == 202
