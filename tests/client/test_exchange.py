"""What the client makes of each answer, step by step; no server, no time passes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from taskmill_client import (
    ApiError,
    AuthenticationFailed,
    Client,
    ConfigurationError,
    Conflict,
    NotFound,
    PermissionRefused,
    ServerUnavailable,
    TooManyRequests,
    UnexpectedAnswer,
    ValidationRefused,
)
from taskmill_client.configuration import Configuration
from taskmill_client.exchange import Exchange
from taskmill_client.wire import Answer, Call, Done, Flow, Lost, Pause, Send, Step, following

URL = "http://tasks.example"
READ = Call(method="GET", path="/tasks")
KEYED = Call(method="POST", path="/tasks", body={}, headers={"Idempotency-Key": "k"})
PLAIN = Call(method="POST", path="/tasks", body={})
REPEATABLE = Call(method="POST", path="/queues/q/pause", body={}, is_repeatable=True)
GOOD = Answer(status=200, headers={"content-type": "application/json"}, body=b'{"a": 1}')


def exchange(*, token: str = "tm_live_x", retries: int = 3) -> Exchange:
    found = Configuration(url=URL, token=token, retries=retries)
    return Exchange(found, random=lambda: 1.0)


def problem(status: int, code: str = "some_code", **members: Any) -> Answer:
    body = {"type": "about:blank", "title": "Title", "status": status, "detail": "Detail."}
    body |= {"code": code, "request_id": "r-1", "errors": [], **members}
    retry_after = body.pop("retry_after", None)
    headers = {"content-type": "application/problem+json"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    return Answer(status=status, headers=headers, body=json.dumps(body).encode())


def html(status: int, **headers: str) -> Answer:
    named = {"content-type": "text/html"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return Answer(status=status, headers=named, body=b"<html>hello</html>")


class Walk:
    """Walks a flow: gives one prepared thing after another for what it sends, notes its pauses."""

    def __init__(self, flow: Flow[Any], *things: Answer | Lost) -> None:
        self.pauses: list[float] = []
        self.sent = 0
        left = list(things)
        step: Step | Done = following(flow)
        while not isinstance(step, Done):
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                step = following(flow)
                continue
            assert isinstance(step, Send)
            self.sent += 1
            thing = left.pop(0)
            lost = thing if isinstance(thing, Lost) else None
            step = following(flow, None if lost else thing, lost=lost)
        self.value = step.value


def refused(kind: type[ApiError], call: Call, *things: Answer | Lost, **options: Any) -> ApiError:
    with pytest.raises(kind) as caught:
        Walk(exchange(**options).ask(call), *things)
    assert type(caught.value) is kind
    return caught.value


def cut() -> Lost:
    return Lost("the connection was reset", was_sent=True)


def not_connected() -> Lost:
    return Lost("connection refused", was_sent=False)


@pytest.mark.parametrize("call", [READ, KEYED, REPEATABLE], ids=["read", "keyed", "repeatable"])
@pytest.mark.parametrize(
    "thing", [cut, not_connected, *(lambda s=s: problem(s) for s in (502, 503, 504))]
)
def test_what_is_safe_is_repeated(call: Call, thing: Any) -> None:
    walk = Walk(exchange().ask(call), thing(), thing(), GOOD)
    assert (walk.sent, walk.value) == (3, GOOD)
    assert walk.pauses == [0.25, 0.5]


@pytest.mark.parametrize("thing", [cut, lambda: problem(503), lambda: html(502)])
def test_what_may_have_been_done_is_not_repeated(thing: Any) -> None:
    refused(ServerUnavailable, PLAIN, thing())


@pytest.mark.parametrize("thing", [not_connected, lambda: problem(429, retry_after=1)])
def test_what_was_surely_not_done_is_repeated(thing: Any) -> None:
    assert Walk(exchange().ask(PLAIN), thing(), GOOD).sent == 2


def test_a_twin_in_flight_is_waited_for_and_no_other_conflict() -> None:
    walk = Walk(exchange().ask(KEYED), problem(409, "idempotency_in_flight", retry_after=1), GOOD)
    assert walk.sent == 2
    refused(Conflict, KEYED, problem(409, "duplicate_task"))


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for_and_then_given_up(status: int) -> None:
    busy = problem(status, retry_after=7)
    walk = Walk(exchange().ask(KEYED), busy, busy, GOOD)
    assert [round(pause) for pause in walk.pauses] == [7, 7]
    assert all(pause > 7 for pause in walk.pauses)
    kind = TooManyRequests if status == 429 else ServerUnavailable
    error = refused(kind, KEYED, busy, busy, busy, busy)
    assert (error.status, error.retry_after, error.code) == (status, 7.0, "some_code")


def test_what_asks_for_too_long_a_wait_is_given_up_at_once() -> None:
    error = refused(TooManyRequests, KEYED, problem(429, "quota_exceeded", retry_after=3600))
    assert error.retry_after == 3600


def test_retry_after_may_be_a_date() -> None:
    at = datetime.now(tz=UTC) + timedelta(seconds=30)
    found = problem(503, retry_after=format_datetime(at, usegmt=True))
    [pause] = Walk(exchange().ask(READ), found, GOOD).pauses
    assert 20 < pause < 31
    assert Walk(exchange().ask(READ), problem(503, retry_after="soon"), GOOD).pauses == [0.25]


def test_no_more_tries_than_allowed() -> None:
    refused(ServerUnavailable, READ, cut(), retries=0)
    refused(ServerUnavailable, READ, cut(), cut(), retries=1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ValidationRefused),
        (401, AuthenticationFailed),
        (403, PermissionRefused),
        (404, NotFound),
        (405, ApiError),
        (409, Conflict),
        (410, NotFound),
        (412, Conflict),
        (413, ValidationRefused),
        (415, ValidationRefused),
        (422, ValidationRefused),
        (500, ServerUnavailable),
    ],
)
def test_an_error_has_the_fields_of_its_problem(status: int, kind: type[ApiError]) -> None:
    places = [{"pointer": "/payload/x", "code": "missing", "detail": "Field required"}]
    error = refused(kind, KEYED, problem(status, errors=places, task_id="t-1"))
    assert (error.status, error.code, error.title) == (status, "some_code", "Title")
    assert error.detail.startswith("Detail.") or status == 401
    assert (error.errors, error.request_id, error.retry_after) == (places, "r-1", None)
    assert error.problem["task_id"] == "t-1"
    assert "/payload/x: Field required" in str(error)


def test_a_missing_or_wrong_key_says_what_to_do() -> None:
    missing = refused(AuthenticationFailed, READ, problem(401, "not_authenticated"), token="")
    assert "No API key was given: give Client(token=...) or set TASKMILL_TOKEN" in str(missing)
    wrong = refused(AuthenticationFailed, READ, problem(401, "not_authenticated"))
    assert f"Is the API key (TASKMILL_TOKEN) of this server, {URL}?" in str(wrong)
    foreign = refused(AuthenticationFailed, READ, html(401), token="")
    assert "TASKMILL_TOKEN" in str(foreign)


def test_a_server_that_is_not_there_says_which_and_what_to_do() -> None:
    error = refused(ServerUnavailable, READ, *(not_connected() for _ in range(4)))
    assert (error.status, error.code) == (0, "unreachable")
    assert f"no answer from {URL}: connection refused" in str(error)
    assert "TASKMILL_URL" in str(error)


@pytest.mark.parametrize(
    "answer", [html(404), html(405), html(302, location="https://x/"), problem(404, "")]
)
def test_what_is_not_taskmill_is_not_taken_for_it(answer: Answer) -> None:
    if b"problem" in answer.headers["content-type"].encode():
        answer = Answer(status=404, headers={"content-type": "application/json"}, body=b"{}")
    error = refused(UnexpectedAnswer, READ, answer)
    assert f"what answers at {URL} does not seem to be Taskmill" in str(error)
    assert "Set TASKMILL_URL to the address of the site" in str(error)
    assert ("it points to https://x/" in str(error)) is (answer.status == 302)


def test_an_answer_that_is_no_json_is_not_taken_for_one() -> None:
    with pytest.raises(UnexpectedAnswer, match="hello"):
        Walk(exchange().json(READ), html(200))
    assert Walk(exchange().json(READ), Answer(status=204)).value is None


def test_an_address_that_taskmill_does_not_have_is_shown() -> None:
    error = refused(NotFound, READ, problem(404, "not_found"))
    assert f"{URL}/api/v1/tasks. Is TASKMILL_URL the address of the site?" in str(error)


def test_a_part_that_is_down_is_told_and_not_raised() -> None:
    sick = Answer(
        status=503,
        headers={"content-type": "application/json"},
        body=b'{"status": "error", "parts": {"database": {}}}',
    )
    assert Walk(exchange().health(READ), sick).value["status"] == "error"
    with pytest.raises(ServerUnavailable):
        Walk(exchange().health(READ), html(503))


def test_a_client_needs_a_url_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKMILL_URL", raising=False)
    with pytest.raises(ConfigurationError, match="set TASKMILL_URL"):
        Client()
    for wrong in ("tasks.example", "ftp://tasks.example", "http://", "http://a:b", "http://a:0"):
        with pytest.raises(ConfigurationError, match=r"looks like http://127\.0\.0\.1:8000"):
            Client(wrong)
    with pytest.raises(ConfigurationError, match="the token cannot be an API key"):
        Client(URL, "tm_live\nx")


def test_url_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKMILL_URL", f"{URL}/taskmill/api/v1/")
    monkeypatch.setenv("TASKMILL_TOKEN", "tm_live_secret\n")
    with Client() as client:
        assert client.url == f"{URL}/taskmill"
        assert "secret" not in repr(client._runner.exchange.configuration)
