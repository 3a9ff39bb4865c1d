"""Integers beyond 64 bits are refused wherever they would be rounded, and none is in silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks_app.errors import ValidationFailed
from tasks_app.models import Task
from tasks_app.public import submit
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant
from tests.feeding import submit as hand_out
from tests.feeding import wait_state
from tests.integration.api_client import Api
from tests.processes import running_worker

pytestmark = pytest.mark.django_db
TOO_LARGE = ("18446744073709551616", "-9223372036854775809", "1180591620717411303424", "1" * 300)
KEPT = (
    "18446744073709551615", "-9223372036854775808", "100000000000000000000", "1" + "0" * 22,
    "0.12345678901234567890123", "1.5e0000000000000000000000001", '"18446744073709551616"',
    '"a, 18446744073709551616 \\" 18446744073709551616"',
)  # fmt: skip
WORDS = "an integer beyond 64 bits would be rounded; send it as a string"


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("default")))


def refused_at(response: Any) -> str:
    body = response.json()
    assert (response.status_code, body["code"]) == (422, "validation_failed")
    [fault] = body["errors"]
    assert (fault["code"], fault["detail"]) == ("integer_range", WORDS)
    return str(fault["pointer"])


@pytest.mark.parametrize("integer", TOO_LARGE)
def test_an_integer_that_would_be_rounded_is_refused_with_its_place(api: Api, integer: str) -> None:
    payload = b'{"a": [1, {"b/c": %s}]}' % integer.encode()
    submission = b'{"type": "tests.echo", "payload": %s}' % payload
    assert refused_at(api.post("/tasks", submission)) == "/payload/a/1/b~1c"
    bulk = b'{"items": [{"type": "tests.echo"}, %s]}' % submission
    assert refused_at(api.post("/tasks/bulk", bulk)) == "/items/1/payload/a/1/b~1c"
    assert refused_at(api.post("/task-types/tests.echo/tasks", payload)) == "/a/1/b~1c"
    metadata = b'{"type": "tests.echo", "metadata": %s}' % payload
    assert refused_at(api.post("/tasks", metadata)) == "/metadata/a/1/b~1c"
    assert Task.objects.count() == 0


def test_no_other_body_rounds_an_integer(api: Api) -> None:
    task_id = make_task(make_tenant("default"))
    body = b'{"metadata": {"n": 18446744073709551616}}'
    assert refused_at(api.call("PATCH", f"/tasks/{task_id}", body)) == "/metadata/n"


@pytest.mark.parametrize("number", KEPT)
def test_what_is_kept_as_sent_is_accepted_and_can_be_sent_again(api: Api, number: str) -> None:
    answer = api.post("/tasks", b'{"type": "tests.echo", "payload": {"n": %s}}' % number.encode())
    assert answer.status_code == 202
    read = api.get(answer.headers["Location"])
    if number.lstrip("-").isdigit():
        assert f'"n": {number}}}'.encode() in read.content
    again = json.dumps({"type": "tests.echo", "payload": read.json()["payload"]}).encode()
    assert api.post("/tasks", again).json()["payload"] == read.json()["payload"]


@pytest.mark.parametrize("where", ["payload", "metadata"])
def test_python_refuses_it_too_and_says_what_to_do(where: str) -> None:
    make_tenant("default")
    with pytest.raises(ValidationFailed, match="more than 64 bits; write it as a string"):
        submit("tests.echo", **{where: {"n": 2**70}})


@pytest.mark.django_db(transaction=True)
def test_a_result_with_such_an_integer_ends_the_task_and_says_what_to_do(valkey: Any) -> None:
    with running_worker():
        row = wait_state(hand_out("test.result", {"kind": "integer"}))
    assert (row.state, row.error["code"]) == ("error", "RESULT_NOT_STORABLE")
    assert row.error["message"].endswith("more than 64 bits; write it as a string")
