"""PostgreSQL prints numbers without exponents: what is bounded in bytes is what it prints."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tasks_app.errors import PayloadTooLarge
from tasks_app.models import Task
from tasks_app.public import submit
from tasks_app.selectors.quotas import forget_quotas
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_task, make_tenant, task_column
from tests.feeding import submit as hand_out
from tests.feeding import wait_state
from tests.integration.api_client import Api, pointers
from tests.processes import running_worker

pytestmark = pytest.mark.django_db
FEW_DIGITS_PRINTED_AS_MANY = {"numbers": [1e308] * 4_000}
TOO_LARGE = "the payload has 1240013 bytes, the limit is 1048576"


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant("default")))


def asked(payload: Any, **options: Any) -> dict[str, Any]:
    return {"type": "tests.echo", "payload": payload} | options


def test_a_payload_is_as_large_as_it_is_printed(api: Api) -> None:
    refused = api.post("/tasks", asked(FEW_DIGITS_PRINTED_AS_MANY))
    assert (refused.status_code, refused.json()["detail"]) == (413, TOO_LARGE)
    items = [asked({}), asked(FEW_DIGITS_PRINTED_AS_MANY)]
    outcomes = api.post("/tasks/bulk", {"items": items}).json()["results"]
    assert [one["status"] for one in outcomes] == [202, 413]
    typed = api.post("/task-types/tests.echo/tasks", FEW_DIGITS_PRINTED_AS_MANY)
    assert typed.status_code == 413
    with pytest.raises(PayloadTooLarge, match=TOO_LARGE):
        submit("tests.echo", FEW_DIGITS_PRINTED_AS_MANY)
    assert Task.objects.count() == 1


def test_a_task_is_not_retried_with_a_payload_that_is_printed_too_large(api: Api) -> None:
    task_id = make_task(make_tenant("default"), type="tests.echo", state="failed")
    body = {"payload": FEW_DIGITS_PRINTED_AS_MANY}
    assert api.post(f"/tasks/{task_id}/retry", body).status_code == 413


def test_a_retry_counts_the_bytes_of_its_own_payload(api: Api) -> None:
    task_id = make_task(make_tenant("default"), type="tests.echo", state="failed")
    assert api.post(f"/tasks/{task_id}/retry", {"payload": {"a": "x" * 5_000}}).status_code == 202
    assert 5_000 < task_column(task_id, "payload_bytes") < 5_100


def test_metadata_are_as_large_as_they_are_printed(api: Api) -> None:
    few = {"metadata": {"numbers": [-1e-300] * 250}}
    assert pointers(api.post("/tasks", asked({}, **few))) == ["/metadata"]
    task_id = make_task(make_tenant("default"))
    assert pointers(api.patch(f"/tasks/{task_id}", few)) == ["/metadata"]


@pytest.fixture
def few_bytes_allowed(api: Api) -> Iterator[None]:
    forget_quotas()
    assert api.call("PATCH", "/quotas", {"max_waiting_bytes": 20_000}).status_code == 200
    yield
    forget_quotas()


@pytest.mark.usefixtures("few_bytes_allowed")
def test_a_quota_of_bytes_counts_what_is_printed(api: Api) -> None:
    payload = {"numbers": [1.5e300] * 40}
    assert api.post("/tasks", asked(payload)).status_code == 202
    assert api.get("/quotas").json()["max_waiting_bytes"]["used"] > 40 * 300
    assert api.post("/tasks", asked(payload)).json()["code"] == "quota_exceeded"


def test_the_bytes_counted_are_those_printed_but_for_spaces(api: Api) -> None:
    rng = random.Random(5)
    numbers = [
        rng.choice((-1, 1)) * rng.choice((1, 2.5, rng.random())) * 10.0 ** rng.randint(-320, 307)
        for _ in range(1_000)
    ]
    texts = ["[1e300]", '"1e300,', "\\1e300]", {"e1,": "1e9}"}, 1, 1.5, None]
    task_id = api.post("/tasks", asked({"numbers": numbers, "texts": texts})).json()["id"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT payload_bytes, octet_length(replace(payload::text, ' ', ''))"
            " FROM taskmill_task WHERE id = %s",
            [task_id],
        )
        counted, printed = cursor.fetchone()
    assert counted == printed


@pytest.mark.django_db(transaction=True)
def test_a_result_is_as_large_as_it_is_printed(valkey: Any) -> None:
    with running_worker():
        row = wait_state(hand_out("demo.echo", FEW_DIGITS_PRINTED_AS_MANY))
    assert (row.state, row.error["code"]) == ("error", "RESULT_TOO_LARGE")
