"""Every refusal is a problem: RFC 9457, with a page behind its type."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tasks_app.api.parsers import default_body_bytes
from tests.factories import make_key
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db
RETRY = "/dead-letters/retry"
MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


@pytest.fixture
def api() -> Api:
    return Api(make_key())


def problem(response: Any, status: int, code: str) -> Any:
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body.keys() >= MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"].endswith(f"/docs/errors#{code}")
    assert body["request_id"] == response.headers["X-Request-Id"]
    return body


def test_an_unknown_address_of_the_api_is_a_problem_and_elsewhere_a_page(api: Api) -> None:
    assert problem(api.get("/nothing"), 404, "not_found")["instance"] == "/api/v1/nothing"
    assert Client().get("/nothing").headers["Content-Type"].startswith("text/html")


def test_a_method_that_is_not_taken_is_answered_with_those_that_are(api: Api) -> None:
    response = api.delete("/workers")
    problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


def test_a_host_that_is_not_ours_is_refused_as_a_problem() -> None:
    client = Client(raise_request_exception=False)
    refused = client.get("/api/v1/workers", headers={"Host": "evil.example"})
    problem(refused, 400, "bad_request")
    assert "TASKMILL_ALLOWED_HOSTS" in refused.json()["detail"]


def test_a_bug_in_a_view_is_a_problem_that_tells_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("tasks_app.api.workers.workers_known", fail)
    body = problem(api.get("/workers"), 500, "internal_error")
    assert "secret" not in str(body)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b'{"type": NaN}', 400, "malformed_json"),
        (b'{"type": Infinity}', 400, "malformed_json"),
        (b'{"type": 1e999}', 400, "malformed_json"),
        (b'{"type": "\\ud800"}', 400, "malformed_json"),
        (b'{"type": "\xff"}', 400, "malformed_json"),
        (b'{"type": "a\\u0000b"}', 422, "validation_failed"),
        (b'{"type": "\\\\\\u0000"}', 422, "validation_failed"),
        (b'{"type": ' + b"[" * 32 + b"]" * 32 + b"}", 422, "validation_failed"),
        (b"[]", 422, "validation_failed"),
        (b"", 422, "validation_failed"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    api: Api, body: bytes, status: int, code: str
) -> None:
    problem(api.post(RETRY, body), status, code)


def test_an_escaped_backslash_before_u0000_is_no_nul_character(api: Api) -> None:
    assert api.post(RETRY, b'{"type": "a\\\\u0000"}').status_code == 202


def test_nesting_of_thirty_two_levels_is_read(api: Api) -> None:
    body = problem(
        api.post(RETRY, b'{"type": ' + b"[" * 31 + b"]" * 31 + b"}"), 422, "validation_failed"
    )
    assert body["errors"][0]["pointer"] == "/type"


def test_a_body_beyond_the_limit_is_refused(api: Api) -> None:
    body = b'{"type": "' + b"x" * default_body_bytes() + b'"}'
    problem(api.post(RETRY, body), 413, "payload_too_large")


def test_another_media_type_is_refused(api: Api) -> None:
    client = Client()
    headers = {"Authorization": f"Bearer {make_key()}"}
    response = client.post(
        f"/api/v1{RETRY}", data=b"type=x", content_type="text/plain", headers=headers
    )
    problem(response, 415, "unsupported_media_type")


def test_a_wrong_field_is_named_by_its_pointer(api: Api) -> None:
    body = problem(api.post(RETRY, {"ids": ["nope"], "x/y": 1}), 422, "validation_failed")
    assert {error["pointer"] for error in body["errors"]} == {"/ids/0", "/x~1y"}


def test_a_request_id_is_echoed_unless_it_is_not_one(api: Api) -> None:
    assert api.get("/workers", X_Request_Id="abc-1").headers["X-Request-Id"] == "abc-1"
    made = api.get("/workers", X_Request_Id="a b\tc").headers["X-Request-Id"]
    assert len(made) == 36


def test_answers_carry_the_headers_that_protect_browsers(api: Api) -> None:
    headers = api.get("/workers").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "address",
    ["/tasks", "/queues", "/dead-letters", "/stats", "/workers", "/task-types", "/schedules",
     "/webhooks", "/quotas", "/dead-letters/retries"],
)  # fmt: skip
def test_a_read_refuses_a_parameter_that_it_does_not_have(api: Api, address: str) -> None:
    assert api.get(address).status_code == 200
    body = problem(api.get(f"{address}?limti=5"), 422, "validation_failed")
    assert [(one["pointer"], one["code"]) for one in body["errors"]] == [
        ("/query/limti", "unknown")
    ]


def test_probes_are_asked_with_whatever_parameters() -> None:
    assert Client().get("/livez?from=balancer").status_code == 200
