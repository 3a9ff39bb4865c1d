"""`http.request` in real workers, calling real servers: any URL is a task, few addresses are."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import format_datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.utils import timezone

from notifications.http_requests.calling import HttpRequest, http_request
from notifications.http_requests.conf import HttpRequestConf
from tasks_app.public import ValidationFailed
from tasks_app.registry import Handler, Options
from tasks_app.testing.run import Run
from tests.factories import make_key, make_tenant
from tests.feeding import events_of, submit, wait_state
from tests.integration.api_client import Api
from tests.integration.test_execution_stopping import cancel
from tests.processes import Process, running_worker
from tests.receivers import Answer, Receiver, Trap, receiver

pytestmark = pytest.mark.django_db(transaction=True)
LOCAL = HttpRequestConf(enabled=True, allow=("127.0.0.0/8",), max_answer_bytes=10_000)


@pytest.fixture(scope="module")
def worker(valkey: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[Process]:
    variables = {
        "TASKMILL_HTTP_REQUEST_ENABLED": "1",
        "TASKMILL_HTTP_REQUEST_ALLOW": "127.0.0.0/8",
        "TASKMILL_HTTP_REQUEST_MAX_ANSWER_BYTES": "10000",
    }
    with django_db_blocker.unblock(), running_worker(**variables) as process:
        yield process


@pytest.fixture
def service() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


def call(url: str, *, max_retry: int = 0, **payload: Any) -> Any:
    """Run it to its end."""
    return wait_state(submit("http.request", {"url": url, **payload}, max_retry=max_retry))


def test_a_service_does_the_work_of_a_task(worker: Process, service: Receiver) -> None:
    service.answers = [
        Answer(
            status=201,
            headers={"Content-Type": "application/json", "Set-Cookie": "session=1"},
            body=b'{"pages": 3}',
        )
    ]
    row = call(service.url, json={"report": 7}, headers={"X-Team": "blue"})
    assert row.state == "success", row.error
    [came] = service.received
    assert (came.method, came.path, came.body) == ("POST", "/hook", b'{"report":7}')
    assert came.headers["content-type"] == "application/json"
    assert came.headers["x-team"] == "blue"
    assert came.headers["idempotency-key"] == str(row.id)
    result = row.result
    assert (result["status"], result["json"], result["body"]) == (201, {"pages": 3}, None)
    assert (result["truncated"], result["headers"]["content-type"]) == (False, "application/json")
    assert "set-cookie" not in result["headers"]
    assert result["duration"] >= 0


def test_text_is_sent_and_comes_back(worker: Process, service: Receiver) -> None:
    service.answers = [Answer(status=200, body="gr\u00fc\u00df\r\n\x00".encode())]
    row = call(service.url, body="\u00e4", method="PUT")
    assert (row.result["body"], row.result["json"]) == ("gr\u00fc\u00df\r\n\ufffd", None)
    assert (service.received[0].method, service.received[0].body) == ("PUT", "\u00e4".encode())


def test_a_get_sends_no_body(worker: Process, service: Receiver) -> None:
    service.answers = [Answer(status=200, body=b"ok")]
    assert call(service.url, method="GET").result["body"] == "ok"
    assert "content-length" not in service.received[0].headers


def test_an_answer_is_kept_up_to_its_limit(worker: Process, service: Receiver) -> None:
    headers = {"Content-Type": "application/json"}
    service.answers = [Answer(status=200, headers=headers, body=b"1" * 20_000)]
    row = call(service.url)
    assert (row.result["truncated"], len(row.result["body"])) == (True, 10_000)


ROUNDED = b'{"n": 123456789012345678901234567890}'


@pytest.mark.parametrize("body", [ROUNDED, b'"\\u0000"', b"{", b"[NaN]", b"1e308," * 1500 + b"1"])
def test_json_that_the_store_would_change_comes_as_text(
    worker: Process, service: Receiver, body: bytes
) -> None:
    service.answers = [Answer(status=200, headers={"Content-Type": "application/json"}, body=body)]
    row = call(service.url)
    assert (row.result["json"], row.result["body"]) == (None, body.decode())


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_passes_is_tried_again_when_the_service_says(
    worker: Process, service: Receiver, status: int
) -> None:
    later = format_datetime(timezone.now(), usegmt=True)
    service.answers = [
        Answer(status=status, headers={"Retry-After": "1" if status == 429 else later}),
        Answer(status=200),
    ]
    row = call(service.url, max_retry=1)
    assert (row.state, row.attempt) == ("success", 2)
    first, second = service.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_a_retry_waits_as_long_as_the_service_asks(worker: Process, service: Receiver) -> None:
    service.answer(503, Retry_After="3600")
    task_id = submit("http.request", {"url": service.url}, max_retry=1)
    row = wait_state(task_id, "retrying")
    assert row.error["code"] == "SERVICE_UNAVAILABLE"
    assert 3500 < (row.run_at - row.updated_at).total_seconds() <= 3600


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_DATA"), (401, "PERMISSION_DENIED"), (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"), (409, "CONFLICT"), (410, "NOT_FOUND"), (302, "REDIRECTED"),
    ],
)  # fmt: skip
def test_a_request_that_is_wrong_is_not_repeated(
    worker: Process, service: Receiver, status: int, code: str
) -> None:
    service.answers = [Answer(status=status, headers={"Location": "/x"}, body=b"no such report")]
    row = call(service.url, max_retry=3)
    assert (row.state, row.attempt, row.error["code"]) == ("failed", 1, code)
    assert str(status) in row.error["message"]
    assert len(service.received) == 1


def test_a_status_that_is_expected_is_a_success(worker: Process, service: Receiver) -> None:
    service.answer(404)
    assert call(service.url, expect_status=[200, 404]).result["status"] == 404


def test_no_answer_in_time_and_no_connection_are_passing(worker: Process) -> None:
    with receiver() as slow:
        slow.gate.clear()
        row = call(slow.url, timeout=0.2)
        gone = slow.url
    assert (row.state, row.error["code"], row.error["retryable"]) == ("failed", "TIMEOUT", True)
    row = call(gone)
    assert (row.state, row.error["code"]) == ("failed", "NETWORK_ERROR")


def test_a_cancel_ends_the_call_under_way(worker: Process, service: Receiver) -> None:
    service.gate.clear()
    task_id = submit("http.request", {"url": service.url, "timeout": 3600}, process_timeout=3600)
    service.wait(1)
    cancel(task_id)
    row = wait_state(task_id)
    assert row.state == "cancelled"
    assert dict(events_of(task_id))["task.cancelled"]["how"] == "cooperative"


def test_the_process_timeout_ends_the_call_under_way(worker: Process, service: Receiver) -> None:
    service.gate.clear()
    row = wait_state(
        submit("http.request", {"url": service.url, "timeout": 60}, process_timeout=1, max_retry=0)
    )
    assert (row.state, row.error["type"]) == ("timeout", "tasks_app.errors.ProcessTimeout")


def test_redirects_are_followed_where_asked_and_secrets_stay(
    worker: Process, service: Receiver
) -> None:
    with receiver() as other:
        other.answers = [Answer(status=200, body=b"there")]
        service.answers = [
            Answer(status=307, headers={"Location": "/again"}),
            Answer(status=303, headers={"Location": other.url}),
        ]
        headers = {"Authorization": "Bearer secret"}
        row = call(service.url, follow_redirects=True, json=[1], headers=headers)
        [last] = other.received
    assert row.result["body"] == "there"
    assert [one.path for one in service.received] == ["/hook", "/again"]
    assert service.received[1].body == b"[1]"
    assert service.received[1].headers["authorization"] == "Bearer secret"
    assert (last.method, last.body, "authorization" in last.headers) == ("GET", b"", False)


def test_a_redirect_cannot_lead_where_no_call_may_go(service: Receiver, settings: Any) -> None:
    trap = Trap("::1")
    settings.TASKMILL_HTTP_REQUEST = LOCAL
    service.answers = [Answer(status=302, headers={"Location": f"http://[::1]:{trap.port}/"})]
    run = declared().test_run({"url": service.url, "follow_redirects": True})
    assert (run.state, _code(run), trap.count()) == ("failed", "PERMISSION_DENIED", 0)
    trap.close()


def _code(run: Run) -> str:
    return run.error.code if run.error else ""


def declared() -> Any:
    """The handler, whatever the settings of this process say."""
    return Handler("http.request", http_request, Options())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"],
)
def test_no_internal_address_is_called(settings: Any, host: str) -> None:
    trap = Trap()
    settings.TASKMILL_HTTP_REQUEST = HttpRequestConf(
        enabled=True, schemes=("http", "https"), ports=(str(trap.port),)
    )
    run = declared().test_run({"url": f"http://{host}:{trap.port}/"})
    assert (run.state, _code(run), trap.count()) == ("failed", "PERMISSION_DENIED", 0)
    trap.close()


@pytest.mark.parametrize("url", ["http://a.example.com/", "https://a.example.com:22/"])
def test_public_services_are_called_by_https_at_its_ports(settings: Any, url: str) -> None:
    settings.TASKMILL_HTTP_REQUEST = HttpRequestConf(enabled=True)
    run = declared().test_run({"url": url})
    assert (_code(run), run.state) == ("PERMISSION_DENIED", "failed")


def test_what_webhooks_may_reach_is_not_open_to_calls(settings: Any, service: Receiver) -> None:
    settings.TASKMILL_WEBHOOKS = type(settings.TASKMILL_WEBHOOKS)(allow=("127.0.0.0/8",))
    settings.TASKMILL_HTTP_REQUEST = HttpRequestConf(enabled=True)
    assert _code(declared().test_run({"url": service.url})) == "PERMISSION_DENIED"
    assert service.received == []


def test_it_is_off_unless_it_is_switched_on() -> None:
    api = Api(make_key(make_tenant("acme")))
    answer = api.post("/tasks", {"type": "http.request", "payload": {"url": "https://a.example"}})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task_type")


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"Host": "a"}},
        {"headers": {"A": "b\r\nC: d"}},
        {"headers": {"a b": "c"}},
        {"body": "a", "json": 1},
        {"method": "TRACE"},
        {"timeout": 0},
    ],
)
def test_a_request_that_cannot_be_sent_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        declared().test_run({"url": "https://a.example", **wrong})


def test_a_payload_survives_being_submitted_from_python() -> None:
    sent = HttpRequest(url="https://a.example", body="x").model_dump(mode="json")
    assert HttpRequest.model_validate(sent).content() == b"x"
    sent = HttpRequest(url="https://a.example", json={"a": 1}).model_dump(mode="json")
    assert HttpRequest.model_validate(sent).content() == b'{"a":1}'


def test_settings_that_mean_nothing_are_told(settings: Any) -> None:
    settings.TASKMILL_HTTP_REQUEST = HttpRequestConf(allow=("a b",))
    with pytest.raises(SystemCheckError, match=r"notifications\.E002"):
        call_command("check")
