"""Tenant B's valid request with tenant A's id: 404 like a random id, and nothing of A changes.

The table must name every route that takes an id; the test of the table fails when one is missing.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver

from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db

CALLS: dict[str, list[tuple[str, str, Any]]] = {
    "tasks/<str:task_id>": [
        ("GET", "queued", None),
        ("PATCH", "queued", {"priority": 9, "metadata": {"a": 1}}),
        ("DELETE", "queued", {"reason": "mine"}),
        ("DELETE", "running", None),
    ],
    "tasks/<str:task_id>/cancel": [("POST", "queued", {}), ("POST", "running", {"force": True})],
    "tasks/<str:task_id>/retry": [("POST", "failed", {}), ("POST", "failed", {"payload": {}})],
    "tasks/<str:task_id>/rerun": [("POST", "success", {}), ("POST", "queued", {"payload": {}})],
    "tasks/<str:task_id>/result": [("GET", "success", None)],
    "tasks/<str:task_id>/events": [("GET", "success", None)],
    "tasks/<str:task_id>/attempts": [("GET", "failed", None)],
    "tasks/<str:task_id>/logs": [("GET", "running", None)],
    "tasks/<str:task_id>/stream": [("GET", "success", None), ("GET", "queued", None)],
    "tasks/<str:task_id>/watch-tokens": [("POST", "queued", {})],
    "tasks/<str:task_id>/deliveries": [("GET", "success", None)],
    "tasks/<str:task_id>/webhooks": [("POST", "queued", {"url": "https://93.184.216.34/"})],
}
"""route below /api/v1 -> (method, state of A's task, body)"""

WITHOUT_TENANT = {"task-types/<str:task_type>", "task-types/<str:task_type>/tasks"}
"""Routes whose parameter names something that all tenants share."""

OF_WEBHOOKS = {
    "webhooks/<str:endpoint_id>",
    "webhooks/<str:endpoint_id>/rotate-secret",
    "webhooks/<str:endpoint_id>/test",
    "webhooks/<str:endpoint_id>/deliveries",
    "deliveries/<str:delivery_id>",
    "deliveries/<str:delivery_id>/resend",
}
"""Routes with ids of their own: test_webhooks_api.py calls each as a stranger."""

OF_SCHEDULES = {
    "schedules/<str:schedule_id>",
    "schedules/<str:schedule_id>/run",
    "schedules/<str:schedule_id>/pause",
    "schedules/<str:schedule_id>/resume",
    "schedules/<str:schedule_id>/firings",
}
"""The same: test_schedules_api.py calls each as a stranger."""
OF_QUEUES = {
    "queues/<str:queue>",
    "queues/<str:queue>/pause",
    "queues/<str:queue>/resume",
    "queues/<str:queue>/clean",
    "queues/<str:queue>/retry-failed",
    "queues/<str:queue>/failed",
}
"""Queues are shared; test_queues_api.py shows that numbers and tasks are the caller's alone."""

OF_LIMITS = {"concurrency-keys/<path:key>"}
"""Keys are names within a tenant; test_limits_api.py shows that each sees its own alone."""

OF_PACED_RETRIES = {
    "dead-letters/retries/<str:retry_id>",
    "dead-letters/retries/<str:retry_id>/abort",
}
"""Ids of their own: test_dead_letters.py calls each as a stranger."""

TABLES = ("task", "event", "attempt", "log", "once", "stale_result")


def routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    for entry in patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from routes(entry.url_patterns, route)
        elif isinstance(entry, URLPattern):
            yield route


def test_the_table_names_every_route_that_takes_an_id() -> None:
    api = [route for route in routes(get_resolver().url_patterns) if route.startswith("api/v1/")]
    with_id = {route.removeprefix("api/v1/") for route in api if "<" in route}
    shared = WITHOUT_TENANT | OF_QUEUES
    own = OF_WEBHOOKS | OF_SCHEDULES | OF_PACED_RETRIES | OF_LIMITS
    assert with_id == set(CALLS) | shared | own


def everything() -> str:
    digest = hashlib.sha256()
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT t::text FROM taskmill_{table} t ORDER BY 1")
            digest.update(repr(cursor.fetchall()).encode())
    return digest.hexdigest()


def shown(response: Any) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    return {name: body[name] for name in body if name not in {"instance", "request_id"}}


@pytest.mark.parametrize(
    ("route", "method", "state", "body"),
    [(route, *call) for route, calls in CALLS.items() for call in calls],
)
def test_another_tenants_id_is_a_404_and_changes_nothing(
    route: str, method: str, state: str, body: Any
) -> None:
    owner, stranger = make_tenant("owner"), make_tenant("stranger")
    task_id = make_task(owner, state=state, payload={"canary": "owner-secret"})
    before = everything()

    def call(token: str, used_id: uuid.UUID) -> Any:
        path = "/" + route.replace("<str:task_id>", str(used_id))
        return Api(token).call(method, path, body)

    theirs = make_key(stranger)
    refused, absent = call(theirs, task_id), call(theirs, uuid.uuid4())
    assert (refused.status_code, absent.status_code) == (404, 404)
    assert shown(refused) == shown(absent)
    assert b"owner-secret" not in refused.content
    assert everything() == before
    assert call(make_key(owner), task_id).status_code < 300


def test_lists_and_searches_hold_nothing_of_another_tenant() -> None:
    owner, stranger = make_tenant("owner"), make_tenant("stranger")
    task_id = make_task(
        owner,
        payload={"canary": "owner-secret"},
        tags=["owner-secret"],
        concurrency_key="owner-secret",
        max_concurrency=1,
    )
    api = Api(make_key(stranger))
    for query in (
        "",
        "?count=true",
        f"?q={task_id}",
        "?tag=owner-secret",
        "?concurrency_key=owner-secret",
        "?type=tests.echo",
        "?status=pending",
    ):
        response = api.get(f"/tasks{query}")
        body = response.json()
        assert (response.status_code, body["results"], body.get("count", 0)) == (200, [], 0)
    assert api.get("/task-types/tests.echo").json()["statistics"]["sample"] == 0
