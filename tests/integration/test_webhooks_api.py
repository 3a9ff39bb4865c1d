"""Webhooks over the API: made, changed, rotated, listed; refused addresses; other tenants."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import connection

from notifications.models import WebhookDelivery, WebhookEndpoint, WebhookTaskSecret
from notifications.sealing import unseal
from notifications.signing import shown_secret
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.integration.api_client import Api, pointers

pytestmark = pytest.mark.django_db
URL = "https://93.184.216.34/hook"


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("acme")))


def made(api: Api, **fields: Any) -> Any:
    answer = api.post("/webhooks", {"url": URL} | fields)
    assert answer.status_code == 201, answer.content
    return answer.json()


def test_an_endpoint_is_made_shown_changed_and_deleted(api: Api) -> None:
    new = made(api, types=["task.failed"], tags=["vip"], description="orders")
    secret = new.pop("secret")
    assert secret.startswith("whsec_")
    assert (new["url"], new["types"], new["tags"], new["enabled"]) == (
        URL, ["task.failed"], ["vip"], True,
    )  # fmt: skip
    path = f"/webhooks/{new['id']}"
    assert api.get(path).json() == new
    assert api.get("/webhooks").json()["results"] == [new]
    changed = api.patch(path, {"types": [], "url": "https://8.8.8.8:8443"}).json()
    assert (changed["types"], changed["tags"], changed["url"]) == (
        [], ["vip"], "https://8.8.8.8:8443/",
    )  # fmt: skip
    off = api.patch(path, {"enabled": False}).json()
    assert off["enabled"] is False
    assert off["disabled_reason"].startswith("disabled by api:")
    assert api.patch(path, {"enabled": True}).json()["disabled_reason"] is None
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_a_secret_is_shown_once_and_stored_sealed(api: Api) -> None:
    new = made(api)
    first = new["secret"]
    path = f"/webhooks/{new['id']}"
    second = api.post(f"{path}/rotate-secret").json()
    row = WebhookEndpoint.objects.get()
    assert shown_secret(unseal(row.secret)) == second["secret"] != first
    assert shown_secret(unseal(row.previous_secret)) == first
    assert second["previous_secret_until"] is not None
    of_tasks = api.post("/webhooks/task-secret/rotate").json()["secret"]
    assert shown_secret(unseal(WebhookTaskSecret.objects.get().secret)) == of_tasks
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e::text FROM taskmill_webhook_endpoint e"
            " UNION ALL SELECT s::text FROM taskmill_webhook_task_secret s"
        )
        stored = repr(cursor.fetchall())
    for secret in (first, second["secret"], of_tasks):
        text = secret.removeprefix("whsec_")
        assert text not in stored
        for shown in (api.get(path), api.get("/webhooks"), api.get(f"{path}/deliveries")):
            assert text not in shown.content.decode()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://93.184.216.34/", "scheme"),
        ("https://user@93.184.216.34/", "userinfo"),
        ("https://93.184.216.34:22/", "port"),
        ("https://169.254.169.254/latest/meta-data", "address"),
        ("https://[::ffff:10.0.0.1]/", "address"),
        ("https://2130706433/", "host"),
        ("https://redis/", "internal_name"),
        ("https://a b/", "malformed"),
        ("ftp://example.com/", "scheme"),
    ],
)
def test_a_refused_address_is_named_with_its_reason(api: Api, url: str, code: str) -> None:
    task = make_task(make_tenant("acme"))
    endpoint = made(api)["id"]
    for answer in (
        api.post("/webhooks", {"url": url}),
        api.patch(f"/webhooks/{endpoint}", {"url": url}),
        api.post(f"/tasks/{task}/webhooks", {"url": url}),
    ):
        assert answer.status_code == 422
        [fault] = answer.json()["errors"]
        assert (fault["pointer"], fault["code"]) == ("/url", code)
        assert len(fault["detail"]) > 10
    submitted = api.post("/tasks", {"type": "tests.echo", "webhook_url": url})
    assert (submitted.status_code, pointers(submitted)) == (422, ["/webhook_url"])


@pytest.mark.parametrize(
    "answers",
    [["10.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["2606:4700:4700::1111", "169.254.169.254"]],
)
def test_a_name_with_an_internal_address_among_others_is_refused_when_saved(
    api: Api, answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, answers)
    answer = api.post("/webhooks", {"url": "https://rebind.example.com/"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "address"
    resolve_to(monkeypatch, ["93.184.216.34", "2606:4700:4700::1111"])
    assert api.post("/webhooks", {"url": "https://rebind.example.com/"}).status_code == 201


def resolve_to(monkeypatch: pytest.MonkeyPatch, answers: list[str]) -> None:
    import socket

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, port)) for address in answers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": URL, "types": ["task.unknown"]}, "/types/0"),
        ({"url": URL, "tags": [""]}, "/tags/0"),
        ({"url": URL, "secret": "whsec_mine"}, "/secret"),
        ({"url": 5}, "/url"),
        ({"url": URL, "types": ["task.failed"] * 51}, "/types"),
    ],
)
def test_a_wrong_endpoint_is_refused_at_its_place(api: Api, body: Any, pointer: str) -> None:
    answer = api.post("/webhooks", body)
    assert answer.status_code == 422
    assert pointers(answer) == [pointer]


def test_a_tenant_has_as_many_endpoints_as_it_may(api: Api, settings: Any) -> None:
    from dataclasses import replace

    settings.TASKMILL_WEBHOOKS = replace(settings.TASKMILL_WEBHOOKS, max_endpoints=2)
    made(api)
    made(api)
    answer = api.post("/webhooks", {"url": URL})
    assert answer.status_code == 422
    assert "at most 2" in answer.json()["detail"]


def test_tests_of_an_endpoint_are_limited_and_refused_while_it_is_disabled(api: Api) -> None:
    path = f"/webhooks/{made(api)['id']}"
    for _ in range(10):
        assert api.post(f"{path}/test").status_code == 202
    refused = api.post(f"{path}/test")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    api.patch(path, {"enabled": False})
    assert api.post(f"{path}/test").status_code == 409
    [first, *others] = api.get(f"{path}/deliveries").json()["results"]
    assert {one["state"] for one in [first, *others]} == {"stopped"}
    assert api.post(f"/deliveries/{first['id']}/resend").status_code == 409
    api.patch(path, {"enabled": True})
    assert api.post(f"/deliveries/{first['id']}/resend").json()["state"] == "pending"


def test_deliveries_are_paged_and_shown_with_their_body(api: Api) -> None:
    path = f"/webhooks/{made(api)['id']}"
    ids = [api.post(f"{path}/test").json()["id"] for _ in range(5)]
    page = api.get(f"{path}/deliveries?limit=2").json()
    seen = [one["id"] for one in page["results"]]
    while page["next"]:
        page = api.get("/api" + page["next"].split("/api", 1)[1]).json()
        seen += [one["id"] for one in page["results"]]
    assert seen == ids[::-1]
    shown = api.get(f"/deliveries/{ids[0]}").json()
    assert '"webhook.test"' in shown["body"]
    assert (shown["log"], shown["tries"], shown["in_flight"]) == ([], 0, False)


def test_the_addresses_of_a_task_are_at_most_ten(api: Api) -> None:
    task = make_task(make_tenant("acme"), webhook_urls=[f"{URL}/{n}" for n in range(10)])
    assert api.post(f"/tasks/{task}/webhooks", {"url": f"{URL}/3"}).status_code == 201
    assert api.post(f"/tasks/{task}/webhooks", {"url": f"{URL}/x"}).status_code == 422


def test_another_tenants_ids_are_absent_and_nothing_of_it_changes(api: Api) -> None:
    endpoint = made(api, description="acme-secret")["id"]
    delivery = api.post(f"/webhooks/{endpoint}/test").json()["id"]
    task = make_task(make_tenant("acme"))
    stranger = Api(make_key(make_tenant("stranger")))
    before = stored()
    calls = [
        ("GET", "/webhooks/{}", endpoint, None),
        ("PATCH", "/webhooks/{}", endpoint, {"url": "https://8.8.8.8/"}),
        ("DELETE", "/webhooks/{}", endpoint, None),
        ("POST", "/webhooks/{}/rotate-secret", endpoint, {}),
        ("POST", "/webhooks/{}/test", endpoint, {}),
        ("GET", "/webhooks/{}/deliveries", endpoint, None),
        ("GET", "/deliveries/{}", delivery, None),
        ("POST", "/deliveries/{}/resend", delivery, {}),
        ("POST", "/tasks/{}/webhooks", str(task), {"url": URL}),
    ]
    for method, path, theirs, body in calls:
        refused = stranger.call(method, path.format(theirs), body)
        absent = stranger.call(method, path.format(uuid.uuid4()), body)
        malformed = stranger.call(method, path.format("x"), body)
        assert {one.status_code for one in (refused, absent, malformed)} == {404}, path
        assert refused.json()["detail"] == absent.json()["detail"]
        assert b"acme" not in refused.content
    assert stored() == before
    assert stranger.get("/webhooks").json()["results"] == []


def stored() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e::text FROM taskmill_webhook_endpoint e UNION ALL SELECT d::text"
            " FROM taskmill_webhook_delivery d UNION ALL SELECT webhook_urls::text"
            " FROM taskmill_task ORDER BY 1"
        )
        return list(cursor.fetchall())


def test_every_call_needs_the_scope_of_webhooks(api: Api) -> None:
    tenant = make_tenant("acme")
    others = Api(make_key(tenant, ["tasks:submit", "tasks:read", "tasks:admin"]))
    task = make_task(tenant)
    for path in ("/webhooks", "/webhooks/task-secret/rotate", f"/tasks/{task}/webhooks"):
        assert others.post(path, {"url": URL}).status_code == 403
    assert others.get("/webhooks").status_code == 403
    assert not WebhookEndpoint.objects.exists()
    assert not WebhookDelivery.objects.exists()
