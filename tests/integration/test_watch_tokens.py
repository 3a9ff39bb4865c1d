"""A watch token shows and streams what it is for, and opens nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from tasks_app.conf import conf
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api
from tests.integration.test_tenant_isolation import CALLS, routes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey")]
ALLOWED = {("GET", "tasks/<str:task_id>"), ("GET", "tasks/<str:task_id>/stream")}


def call(method: str, path: str, token: str, *, as_header: bool = False) -> Any:
    query = "" if as_header else f"?token={token}"
    headers = {"Authorization": f"Bearer {token}"} if as_header else {}
    client = Client(raise_request_exception=False)
    return client.generic(method, f"/api/v1{path}{query}", headers=headers)


def token_of(api: Api, task_id: Any) -> str:
    answer = api.post(f"/tasks/{task_id}/watch-tokens")
    assert answer.status_code == 201
    return str(answer.json()["token"])


def test_a_submission_is_answered_with_a_token_for_its_task_alone() -> None:
    api = Api(make_key())
    body = api.post("/tasks", {"type": "tests.echo"}, Idempotency_Key="a").json()
    watch = body["watch"]
    assert watch["stream_url"].endswith(f"/tasks/{body['id']}/stream?token={watch['token']}")
    assert watch["ws_url"].startswith("ws://")
    assert watch["expires_at"] > body["created_at"]
    shown = call("GET", f"/tasks/{body['id']}", watch["token"])
    assert (shown.status_code, shown.json()["id"]) == (200, body["id"])
    again = api.post("/tasks", {"type": "tests.echo"}, Idempotency_Key="a").json()
    assert again["id"] == body["id"]
    assert call("GET", f"/tasks/{body['id']}", again["watch"]["token"]).status_code == 200


@pytest.mark.parametrize(
    "rule",
    [{"unique": {"key": "k"}}, {"debounce": {"key": "d", "wait": 60, "max_wait": 600}}],
)
def test_who_comes_to_an_unfinished_task_may_watch_it_too(rule: dict[str, Any]) -> None:
    api = Api(make_key())
    first = api.post("/tasks", {"type": "tests.echo", **rule})
    again = api.post("/tasks", {"type": "tests.echo", **rule})
    assert (first.status_code, again.status_code) == (202, 200)
    path = f"/tasks/{first.json()['id']}"
    assert call("GET", path, again.json()["watch"]["token"]).status_code == 200


def test_a_finished_task_needs_no_token() -> None:
    api = Api(make_key())
    asked = {"type": "tests.echo", "unique": {"key": "k", "while": "ttl", "ttl": 60}}
    first = api.post("/tasks", asked).json()
    assert api.delete(f"/tasks/{first['id']}").status_code == 200
    again = api.post("/tasks", asked)
    assert (again.status_code, again.json()["done"]) == (200, True)
    assert "watch" not in again.json()


def test_a_token_opens_its_task_and_nothing_else() -> None:
    tenant = make_tenant()
    api = Api(make_key(tenant))
    mine, other = make_task(tenant), make_task(tenant)
    token = token_of(api, mine)
    for route, calls in CALLS.items():
        for method in {one[0] for one in calls}:
            for used, is_mine in ((mine, True), (other, False)):
                path = "/" + route.replace("<str:task_id>", str(used))
                answer = call(method, path, token)
                if (method, route) not in ALLOWED:
                    assert answer.status_code in {401, 403}, path
                else:
                    assert answer.status_code == (200 if is_mine else 404), path
                assert call(method, path, token, as_header=True).status_code == 401


def test_a_token_opens_no_list_and_no_submission() -> None:
    tenant = make_tenant()
    token = token_of(Api(make_key(tenant)), make_task(tenant))
    found = [route for route in routes(get_resolver().url_patterns) if route.startswith("api/v1/")]
    plain = {f"/{one.removeprefix('api/v1/')}" for one in found if "<" not in one}
    for path in plain - {"/health", "/livez", "/readyz", "/events/stream"}:
        for method in ("GET", "POST"):
            assert call(method, path, token).status_code in {401, 403, 405}, path


def test_a_token_of_a_tag_streams_that_tag_alone() -> None:
    tenant = make_tenant()
    api = Api(make_key(tenant))
    task_id = make_task(tenant, tags=["vip"])
    answer = api.post("/watch-tokens", {"tag": "vip"})
    token = answer.json()["token"]
    assert answer.status_code == 201
    assert call("GET", "/events/stream", token).status_code == 200
    assert call("GET", f"/tasks/{task_id}", token).status_code == 404
    assert call("GET", f"/tasks/{task_id}/stream", token).status_code == 404
    assert api.post("/watch-tokens", {"tag": ""}).status_code == 422


def test_only_those_who_may_read_make_tokens() -> None:
    tenant = make_tenant()
    api = Api(make_key(tenant, ["tasks:submit"]))
    assert api.post(f"/tasks/{make_task(tenant)}/watch-tokens").status_code == 403
    assert api.post("/watch-tokens", {"tag": "a"}).status_code == 403


def test_expired_and_damaged_tokens_are_refused(settings: Any) -> None:
    tenant = make_tenant()
    task_id = make_task(tenant)
    api = Api(make_key(tenant))
    token = token_of(api, task_id)
    for damaged in (token[:-1], token + "x", token[4:], "tmw_", "tmw_a:b", "x" * 2000):
        assert call("GET", f"/tasks/{task_id}", damaged).status_code == 401
    settings.TASKMILL = dataclasses.replace(conf(), watch_token_seconds=-1)
    assert call("GET", f"/tasks/{task_id}", token_of(api, task_id)).status_code == 401


def test_tokens_survive_a_rotation_of_the_secret_key(settings: Any) -> None:
    tenant = make_tenant()
    task_id = make_task(tenant)
    token = token_of(Api(make_key(tenant)), task_id)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-" + "y" * 50
    assert call("GET", f"/tasks/{task_id}", token).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert call("GET", f"/tasks/{task_id}", token).status_code == 401
