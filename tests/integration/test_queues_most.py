"""How many queues submissions may make, by every way in; those that are there go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction

from tasks_app.errors import TooManyQueues
from tasks_app.models import Queue, Task
from tasks_app.public import submit
from tasks_app.selectors.queues import forget_queue_defaults
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_key, make_tenant
from tests.integration.api_client import Api

pytestmark = pytest.mark.django_db
ECHO = {"type": "tests.echo", "payload": {"text": "hello"}}
MOST = 3


@pytest.fixture(autouse=True)
def few_queues(settings: Any) -> Iterator[None]:
    """Three queues may be there; one is."""
    settings.TASKMILL = replace(settings.TASKMILL, queues_most=MOST)
    Queue.objects.all().delete()
    Queue.objects.create(name="there")
    forget_queue_defaults()
    yield
    forget_queue_defaults()


@pytest.fixture
def api() -> Api:
    return Api(make_key(make_tenant()))


def to(queue: str) -> dict[str, Any]:
    return ECHO | {"queue": queue}


def refused(answer: Any, queue: str) -> None:
    assert answer.status_code == 422, answer.content
    problem = answer.json()
    assert problem["code"] == "too_many_queues"
    assert (problem["queue"], problem["limit"]) == (queue, MOST)
    assert "TASKMILL_QUEUES_MOST" in problem["detail"]
    assert not Task.objects.filter(queue=queue).exists()
    assert not Queue.objects.filter(name=queue).exists()


def test_submissions_make_queues_up_to_the_limit_and_those_that_are_there_go_on(api: Api) -> None:
    for name in ("new-1", "new-2"):
        assert api.post("/tasks", to(name)).status_code == 202
    refused(api.post("/tasks", to("new-3")), "new-3")
    for name in ("there", "new-1", "new-2"):
        assert api.post("/tasks", to(name)).status_code == 202
    refused(api.post("/task-types/tests.echo/tasks?queue=new-3", ECHO["payload"]), "new-3")


def test_queues_of_handlers_and_of_operators_are_not_refused(api: Api) -> None:
    Queue.objects.bulk_create([Queue(name=f"more-{number}") for number in range(MOST)])
    forget_queue_defaults()
    assert api.post("/tasks", ECHO).status_code == 202
    refused(api.post("/tasks", to("wanted")), "wanted")
    assert api.post("/queues", {"name": "wanted"}).status_code == 201
    assert api.post("/tasks", to("wanted")).status_code == 202


def test_of_a_bulk_the_items_beyond_the_limit_are_refused(api: Api) -> None:
    items = [to(f"bulk-{number}") for number in range(5)] + [to("there"), ECHO]
    answer = api.post("/tasks/bulk", {"items": items})
    assert answer.status_code == 207
    found = [(one["status"], one.get("code")) for one in answer.json()["results"]]
    assert found == [(202, None)] * 2 + [(422, "too_many_queues")] * 3 + [(202, None)] * 2
    assert Queue.objects.count() == MOST


def test_an_atomic_bulk_beyond_the_limit_leaves_neither_tasks_nor_queues(api: Api) -> None:
    items = [to(f"bulk-{number}") for number in range(5)]
    answer = api.post("/tasks/bulk", {"items": items, "atomic": True})
    assert answer.status_code == 422
    assert {one["code"] for one in answer.json()["errors"]} == {"too_many_queues"}
    assert (Queue.objects.count(), Task.objects.count()) == (1, 0)


def test_python_and_schedules_are_refused_beyond_the_limit(api: Api) -> None:
    make_tenant("default")
    Queue.objects.bulk_create([Queue(name=f"more-{number}") for number in range(MOST)])
    forget_queue_defaults()
    with pytest.raises(TooManyQueues):
        submit("tests.echo", {"text": "hello"}, queue="new")
    schedule = ECHO | {"key": "k", "interval_seconds": 60}
    answer = api.post("/schedules", schedule | {"options": {"queue": "new"}})
    refused(answer, "new")
    assert api.post("/schedules", schedule | {"options": {"queue": "there"}}).status_code == 201


def test_a_task_is_not_moved_to_a_queue_beyond_the_limit(api: Api) -> None:
    task = api.post("/tasks", to("there")).json()["links"]["self"]
    for name in ("new-1", "new-2"):
        assert api.patch(task, {"queue": name}).status_code == 200
    refused(api.patch(task, {"queue": "new-3"}), "new-3")
    assert api.patch(task, {"queue": "there"}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_no_number_of_submissions_at_a_time_exceeds_the_limit() -> None:
    tenant = make_tenant("acme")
    keys = [make_key(tenant) for _ in range(6)]
    start = threading.Barrier(len(keys))

    def post(number: int, key: str) -> None:
        items = [to(f"crowd-{number}-{one}") for one in range(4)]
        start.wait(30)
        Api(key).post("/tasks/bulk", {"items": items})
        connection.close()

    threads = [threading.Thread(target=post, args=one) for one in enumerate(keys)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert Queue.objects.count() == MOST
    assert Task.objects.count() == MOST - 1


@pytest.mark.django_db(transaction=True)
def test_a_queue_whose_making_was_undone_is_not_thought_to_be_there() -> None:
    api = Api(make_key(make_tenant("acme")))
    items = [to("undone"), to("undone-2"), to("undone-3")]
    assert api.post("/tasks/bulk", {"items": items, "atomic": True}).status_code == 422
    for name in ("new-1", "new-2"):
        assert api.post("/tasks", to(name)).status_code == 202
    refused(api.post("/tasks", to("undone")), "undone")


@pytest.mark.django_db(transaction=True)
def test_a_long_transaction_of_python_keeps_nobody_from_making_a_queue() -> None:
    make_tenant("default")
    api = Api(make_key(make_tenant("acme")))
    answers: list[int] = []

    def post() -> None:
        answers.append(api.post("/tasks", to("new")).status_code)
        connection.close()

    with transaction.atomic():
        submit("tests.echo", {"text": "hello"}, queue="new")
        thread = threading.Thread(target=post)
        thread.start()
        thread.join(20)
        assert answers == [202]
