"""`/quotas`: a tenant sees its own bounds and their use; a key with the scope sets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasks_app.models import Tenant
from tasks_app.selectors.quotas import forget_quotas
from tasks_app.services.keys import SCOPES
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db
ECHO = {"type": "tests.echo", "payload": {"text": "hello"}}
NONE = {"limit": None, "used": None}


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    forget_quotas()
    yield
    forget_quotas()


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


def change(api: Api, **quotas: int | None) -> dict[str, Any]:
    answer = api.call("PATCH", "/quotas", quotas)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_a_tenant_without_quotas_sees_that(api: Api) -> None:
    assert api.post("/tasks", ECHO).status_code == 202
    assert api.get("/quotas").json() == {
        "max_waiting": NONE,
        "max_waiting_bytes": NONE,
        "max_submissions_per_minute": NONE | {"renewed_in_seconds": None},
    }


def test_use_is_shown_beside_each_quota(api: Api, tenant: Tenant) -> None:
    make_task(tenant, state="running")
    change(api, max_waiting=5, max_waiting_bytes=1000, max_submissions_per_minute=9)
    assert api.get("/quotas").json()["max_submissions_per_minute"]["renewed_in_seconds"] is None
    for _ in range(2):
        assert api.post("/tasks", ECHO).status_code == 202
    found = api.get("/quotas").json()
    assert found["max_waiting"] == {"limit": 5, "used": 2}
    assert found["max_waiting_bytes"] == {"limit": 1000, "used": 2 * len('{"text":"hello"}')}
    minute = found["max_submissions_per_minute"]
    assert (minute["limit"], minute["used"]) == (9, 2)
    assert 0 < minute["renewed_in_seconds"] <= 60


def test_a_quota_set_by_the_api_refuses_at_once_and_is_lifted_at_once(api: Api) -> None:
    assert change(api, max_waiting=1)["max_waiting"] == {"limit": 1, "used": 0}
    assert [api.post("/tasks", ECHO).status_code for _ in range(2)] == [202, 429]
    assert change(api, max_waiting_bytes=4000)["max_waiting"] == {"limit": 1, "used": 1}
    assert change(api, max_waiting=None)["max_waiting"] == NONE
    assert api.post("/tasks", ECHO).status_code == 202
    assert change(api)["max_waiting_bytes"]["limit"] == 4000


def test_another_tenants_quotas_are_neither_seen_nor_changed(api: Api) -> None:
    other = Api(make_key(make_tenant("other")))
    change(other, max_waiting=7)
    change(api, max_waiting=3)
    assert api.post("/tasks", ECHO).status_code == 202
    assert other.get("/quotas").json()["max_waiting"] == {"limit": 7, "used": 0}
    assert api.get("/quotas").json()["max_waiting"] == {"limit": 3, "used": 1}


def test_looking_takes_one_scope_and_setting_another(tenant: Tenant) -> None:
    without = Api(make_key(tenant, [scope for scope in SCOPES if scope != "quotas:write"]))
    assert without.get("/quotas").status_code == 200
    refused = without.call("PATCH", "/quotas", {"max_waiting": 1})
    assert (refused.status_code, refused.json()["scope"]) == (403, "quotas:write")
    assert Tenant.objects.get(pk=tenant.pk).max_waiting is None
    setting = Api(make_key(tenant, ["quotas:write"]))
    assert change(setting, max_waiting=1)["max_waiting"]["limit"] == 1
    assert setting.get("/quotas").status_code == 403


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"max_waiting": 0}, "/max_waiting"),
        ({"max_waiting": 1_000_001}, "/max_waiting"),
        ({"max_waiting_bytes": "many"}, "/max_waiting_bytes"),
        ({"max_submissions_per_minute": -1}, "/max_submissions_per_minute"),
        ({"waiting": 5}, "/waiting"),
    ],
)
def test_a_wrong_quota_is_told_where_and_changes_nothing(
    api: Api, tenant: Tenant, body: dict[str, Any], pointer: str
) -> None:
    refused = api.call("PATCH", "/quotas", body)
    assert (refused.status_code, pointers(refused)) == (422, [pointer])
    assert not Tenant.objects.exclude(max_waiting=None).exists()
