"""Every refusal is a problem: RFC 9457, with a page behind its type."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tasks_app.api.parsers import default_body_bytes
from tests import task_handlers  # noqa: F401 - registers the types
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


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("address", ["/", "/docs/errors", "/examples/"])
def test_outside_of_the_api_who_prefers_json_is_answered_with_problems(address: str) -> None:
    client = Client(enforce_csrf_checks=True)
    for accepted in ("application/json", "application/problem+json, */*;q=0.1"):
        headers = {"Accept": accepted}
        problem(client.get("/nothing", headers=headers), 404, "not_found")
        answer = client.post(address, headers=headers)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "GET, HEAD"
        problem(client.post("/admin/login/", headers=headers), 403, "forbidden")
    for accepted in (BROWSER, "*/*", "application/json;q=0.5, text/html"):
        for answer in (client.get("/nothing", headers={"Accept": accepted}),
                       client.post(address, headers={"Accept": accepted}),
                       client.post("/admin/login/", headers={"Accept": accepted})):  # fmt: skip
            assert answer.status_code in {403, 404, 405}
            assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("address", ["schema", "docs", "redoc", "asyncapi.json"])
def test_the_documents_of_the_api_refuse_other_methods_with_problems(address: str) -> None:
    answer = Client(enforce_csrf_checks=True).post(f"/api/{address}", headers={"Accept": BROWSER})
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD"


def test_a_host_that_is_not_ours_is_refused_as_a_problem() -> None:
    client = Client(raise_request_exception=False)
    answer = client.get("/api/v1/workers", headers={"Host": "evil.example"})
    assert "TASKMILL_ALLOWED_HOSTS" in problem(answer, 400, "bad_request")["detail"]


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


@pytest.mark.parametrize("path", ["/tasks/{id}/watch-tokens", "/ws-tickets"])
def test_fields_are_refused_where_none_is_read(api: Api, path: str) -> None:
    address = path.format(id=api.post("/tasks", {"type": "tests.echo"}).json()["id"])
    for body, faults in (
        ({"ttl": 60, "a/b": 1}, [("/ttl", "extra_forbidden"), ("/a~1b", "extra_forbidden")]),
        ([1], [("", "no_body")]),
    ):
        found = problem(api.post(address, body), 422, "validation_failed")
        assert [(one["pointer"], one["code"]) for one in found["errors"]] == faults
    assert {api.post(address, body).status_code for body in (None, {}, b"")} <= {201, 503}


@pytest.mark.parametrize(
    ("body", "pointer", "code", "words"),
    [
        (b'{"type": "a", "b": [0, {"c": "\\u0000"}]}', "/b/1/c", "nul_character", "leave it out"),
        (b'{"type": "a", "b": {"\\u0000": 1}}', "/b/\x00", "nul_character", "leave it out"),
        (b'{"a": [[], 1], "b": ' + b"[" * 40 + b"]" * 40 + b"}", "/b" + "/0" * 31, "too_deep",
         "send what is inside as a string"),
        (b"[1]", "", "model_type", "write a JSON object"),
        (b'{"type": ""}', "/type", "too_short", "write at least 1 characters, not 0"),
        (b'{"type": "%s"}' % (b"x" * 101), "/type", "too_long", "at most 100 characters, not 101"),
        (b'{"type": "a", "tags": %s}' % b"3", "/tags", "list_type", "write a JSON array"),
        (b'{"type": "tests.order", "payload": 3}', "/payload", "model_type", "write a JSON object"),
    ],
)  # fmt: skip
def test_a_fault_says_where_it_is_and_what_to_do(
    api: Api, body: bytes, pointer: str, code: str, words: str
) -> None:
    found = problem(api.post("/tasks", body), 422, "validation_failed")
    [fault] = found["errors"]
    assert (fault["pointer"], fault["code"]) == (pointer, code)
    assert words in fault["detail"]
    assert fault["detail"] in found["detail"]


def test_where_nothing_is_selected_the_body_is_pointed_to(api: Api) -> None:
    for path in (RETRY, "/dead-letters/retries"):
        [fault] = problem(api.post(path, {"per_second": 1} if path != RETRY else {}), 422,
                          "validation_failed")["errors"]  # fmt: skip
        assert (fault["pointer"], fault["code"]) == ("", "selection")


def test_the_task_that_holds_a_key_is_named_in_words_too(api: Api) -> None:
    asked = {"type": "tests.echo", "unique": {"key": "k", "on_conflict": "reject"}}
    holder = api.post("/tasks", asked).json()["id"]
    [refused] = api.post("/tasks/bulk", {"items": [asked]}).json()["results"]
    assert (refused["id"], holder in refused["detail"]) == (holder, True)
    assert "task_id" not in refused["detail"]


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


def test_of_many_faults_the_first_are_listed_and_the_others_counted(api: Api) -> None:
    many = {f"unknown{number}": 1 for number in range(20_000)}
    for path in (RETRY, "/tasks"):
        answer = api.post(path, {"type": "tests.echo"} | many)
        body = problem(answer, 422, "validation_failed")
        assert [one["pointer"] for one in body["errors"]] == [f"/unknown{n}" for n in range(50)]
        assert body["more_errors"] == 19_950
        assert len(answer.content) < 10_000


def test_the_faults_of_many_items_are_counted_too(api: Api) -> None:
    items = [{"type": "tests.echo"} | {f"x{n}": 1 for n in range(60)}] * 40
    answer = api.post("/tasks/bulk", {"items": items})
    assert len(answer.content) < 40 * 1_000
    assert {len(one["errors"]) for one in answer.json()["results"]} == {5}
    assert {one["more_errors"] for one in answer.json()["results"]} == {55}
    atomic = api.post("/tasks/bulk", {"items": items, "atomic": True})
    body = problem(atomic, 422, "validation_failed")
    assert (len(body["errors"]), body["more_errors"]) == (50, 2_350)


def test_a_name_without_end_is_cut_where_it_is_pointed_to(api: Api) -> None:
    answer = api.post("/tasks", {"type": "tests.echo", "~" * 500_000: 1})
    [fault] = problem(answer, 422, "validation_failed")["errors"]
    assert fault["pointer"].startswith("/~0~0")
    assert len(answer.content) < 3_000


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
