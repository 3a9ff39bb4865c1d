"""Cancel, retry and revise over HTTP."""

from __future__ import annotations

import pytest

from tasks_app.models import Event, Task, Tenant
from tasks_app.states import FINISHED, PENDING, State
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant, task_column, task_state
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant("acme")


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_key(tenant))


@pytest.mark.parametrize("state", sorted(PENDING))
def test_cancelling_a_pending_task_ends_it_and_may_be_repeated(
    api: Api, tenant: Tenant, state: State
) -> None:
    task_id = make_task(tenant, state=state)
    answers = [api.delete(f"/tasks/{task_id}"), api.post(f"/tasks/{task_id}/cancel")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["state"] == "cancelled"
    assert Event.objects.filter(task_id=task_id, type="task.cancelled").count() == 1


def test_cancelling_a_running_task_asks_it_to_stop(api: Api, tenant: Tenant) -> None:
    task_id = make_task(tenant, state="running")
    body = {"reason": "no longer needed", "grace": 2.5}
    first = api.post(f"/tasks/{task_id}/cancel", body)
    again = api.post(f"/tasks/{task_id}/cancel")
    assert [first.status_code, again.status_code] == [202, 202]
    assert first.json()["state"] == "cancelling"
    assert first.json()["cancel_requested_at"] is not None
    assert again.json()["version"] == first.json()["version"]
    row = Task.objects.get(id=task_id)
    assert (row.cancel_reason, row.cancel_grace_seconds) == ("no longer needed", 2.5)
    assert row.cancel_requested_by.startswith("api:")
    assert api.post(f"/tasks/{task_id}/cancel", {"force": True}).status_code == 202
    assert task_column(task_id, "cancel_grace_seconds") == 0


@pytest.mark.parametrize("state", sorted(FINISHED - {State.CANCELLED}))
def test_a_finished_task_is_not_cancelled(api: Api, tenant: Tenant, state: State) -> None:
    task_id = make_task(tenant, state=state)
    response = api.delete(f"/tasks/{task_id}", {"reason": "late"})
    assert (response.status_code, response.json()["state"]) == (409, state)
    assert task_state(task_id) == state


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"why": 1}, "/why"),
        ({"reason": "x" * 501}, "/reason"),
        ({"reason": "\x00"}, "/reason"),
        ({"grace": -1}, "/grace"),
        ({"force": "yes"}, "/force"),
    ],
)
def test_a_wrong_cancel_changes_nothing(
    api: Api, tenant: Tenant, body: dict[str, object], pointer: str
) -> None:
    task_id = make_task(tenant)
    response = api.post(f"/tasks/{task_id}/cancel", body)
    assert response.status_code == 422
    assert (pointers(response) or [""])[0] == pointer
    assert task_state(task_id) == "queued"


@pytest.mark.parametrize("state", ["failed", "error", "timeout", "cancelled"])
def test_a_task_that_did_not_succeed_is_retried(api: Api, tenant: Tenant, state: str) -> None:
    task_id = make_task(tenant, state=state)
    response = api.post(f"/tasks/{task_id}/retry")
    task = response.json()
    assert (response.status_code, task["state"], task["error"]) == (202, "queued", None)
    assert api.post(f"/tasks/{task_id}/retry").status_code == 409
    assert api.get(f"/tasks/{task_id}/events").json()["results"][-1]["type"] == "task.redriven"


@pytest.mark.parametrize("state", ["queued", "running", "success"])
def test_other_tasks_are_not_retried(api: Api, tenant: Tenant, state: str) -> None:
    task_id = make_task(tenant, state=state)
    response = api.post(f"/tasks/{task_id}/retry")
    assert (response.status_code, response.json()["state"]) == (409, state)


def test_a_retry_does_not_break_a_unique_key(api: Api, tenant: Tenant) -> None:
    dead = make_task(tenant, state="failed", unique_key="u")
    make_task(tenant, unique_key="u")
    response = api.post(f"/tasks/{dead}/retry")
    assert (response.status_code, response.json()["code"]) == (409, "duplicate_task")
    assert task_state(dead) == "failed"


def test_a_pending_task_is_revised_by_a_merge_patch(api: Api, tenant: Tenant) -> None:
    task_id = make_task(tenant, metadata={"a": 1, "b": {"c": 2, "d": 3}}, tags=["x"])
    patch = {
        "priority": 9,
        "queue": "slow",
        "tags": ["y", "z"],
        "metadata": {"a": None, "b": {"c": 5}, "e": 6},
        "run_at": "2030-01-01T00:00:00Z",
    }
    response = api.patch(f"/tasks/{task_id}", patch)
    task = response.json()
    assert response.status_code == 200
    assert (task["priority"], task["queue"], task["tags"]) == (9, "slow", ["y", "z"])
    assert task["metadata"] == {"b": {"c": 5, "d": 3}, "e": 6}
    assert (task["run_at"], task["state"]) == ("2030-01-01T00:00:00Z", "scheduled")
    cleared = api.patch(f"/tasks/{task_id}", {"run_at": None, "tags": None, "metadata": None})
    shown = {name: cleared.json()[name] for name in ("run_at", "tags", "metadata", "state")}
    assert shown == {"run_at": None, "tags": [], "metadata": {}, "state": "queued"}


def test_a_revision_honours_the_version_it_names(api: Api, tenant: Tenant) -> None:
    path = f"/tasks/{make_task(tenant)}"
    etag = api.get(path).headers["ETag"]
    first = api.patch(path, {"priority": 1}, If_Match=etag)
    assert first.status_code == 200
    assert first.headers["ETag"] != etag
    for stale in (etag, '"77"', "nonsense"):
        assert api.patch(path, {"priority": 2}, If_Match=stale).status_code == 412
    assert api.patch(path, {"metadata": {"a": 1}}, If_Match=etag).status_code == 412
    assert api.patch(path, {"priority": 2}, If_Match="*").status_code == 200
    assert api.get(path).json()["priority"] == 2


@pytest.mark.parametrize("state", ["running", "success", "failed"])
def test_a_task_that_no_longer_waits_is_not_revised(api: Api, tenant: Tenant, state: str) -> None:
    task_id = make_task(tenant, state=state)
    assert api.patch(f"/tasks/{task_id}", {"priority": 1}).status_code == 409
    assert task_column(task_id, "priority") == 0


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"tenant_id": 5}, "/tenant_id"),
        ({"state": "success"}, "/state"),
        ({"epoch": 9}, "/epoch"),
        ({"attempt": 0}, "/attempt"),
        ({"finished_at": None}, "/finished_at"),
        ({"lease_owner": "me"}, "/lease_owner"),
        ({"result": 1}, "/result"),
        ({"payload": {}}, "/payload"),
        ({"priority": None}, "/priority"),
        ({"priority": 2000}, "/priority"),
        ({"queue": "B A D"}, "/queue"),
        ({"run_at": "2030-01-01T00:00:00"}, "/run_at"),
        ({"metadata": {"a": "x" * 65_536}}, "/metadata"),
        ({"tags": [""]}, "/tags/0"),
    ],
)
def test_what_may_not_be_revised_is_refused_and_not_stored(
    api: Api, tenant: Tenant, patch: dict[str, object], pointer: str
) -> None:
    task_id = make_task(tenant)
    before = Task.objects.filter(id=task_id).values().get()
    response = api.patch(f"/tasks/{task_id}", patch)
    assert (response.status_code, pointers(response)) == (422, [pointer])
    assert Task.objects.filter(id=task_id).values().get() == before


@pytest.mark.parametrize(
    ("method", "tail", "scope"),
    [
        ("GET", "", "tasks:read"),
        ("PATCH", "", "tasks:submit"),
        ("DELETE", "", "tasks:cancel"),
        ("POST", "/cancel", "tasks:cancel"),
        ("POST", "/retry", "tasks:submit"),
        ("POST", "/rerun", "tasks:submit"),
        ("GET", "/result", "tasks:read"),
        ("GET", "/events", "tasks:read"),
        ("GET", "/attempts", "tasks:read"),
        ("GET", "/logs", "tasks:read"),
    ],
)
def test_each_action_needs_its_scope(tenant: Tenant, method: str, tail: str, scope: str) -> None:
    others = {"tasks:submit", "tasks:read", "tasks:cancel"} - {scope}
    task_id = make_task(tenant)
    response = Api(make_key(tenant, scopes=others)).call(method, f"/tasks/{task_id}{tail}", {})
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")
    assert scope in response.json()["detail"]
