"""What holds of the real platform and of the fake alike, for both clients."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskmill_client import (
    Client,
    Conflict,
    NotFound,
    TaskFailed,
    ValidationRefused,
    WaitTimeout,
)
from taskmill_client.testing import FakeServer
from tests.client.sides import side


def scripted() -> FakeServer:
    fake = FakeServer()
    fake.succeeds("demo.echo", lambda payload: payload)
    fake.fails("demo.fail", "INVALID_DATA", "failed as asked")
    return fake


@pytest.fixture(params=["real", "fake"])
def make(request: pytest.FixtureRequest) -> Callable[[type], Any]:
    """What makes a client of the server that is meant."""
    if request.param == "fake":
        fake = scripted()
        return lambda kind: fake.client() if kind is Client else fake.async_client()
    installation = request.getfixturevalue("installation")
    return lambda kind: kind(installation.url, installation.credentials()["token"])


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, make: Callable[[type], Any]) -> Iterator[Any]:
    with side(request.param, make) as made:
        yield made


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex


def test_a_task_is_submitted_waited_for_and_read(client: Any, tag: str) -> None:
    payload = {"report_id": 42}
    task = client.tasks.submit(
        "demo.echo", payload, priority=7, tags=[tag], metadata={"tenant": "acme"}
    )
    assert (task.status, task.done, task.type, task.queue) == (
        "pending",
        False,
        "demo.echo",
        "default",
    )
    assert (task.priority, task.tags, task.metadata, task.payload) == (
        7,
        [tag],
        {"tenant": "acme"},
        payload,
    )
    done = task.wait(timeout=30)
    assert (done.status, done.done, done.succeeded, done.result) == ("success", True, True, payload)
    assert (task.result, task.progress.percent, task.attempt) == (payload, 100.0, 1)
    assert task.finished_at >= task.created_at
    again = client.tasks.get(task.id)
    assert (again.id, again.result, again.version) == (task.id, payload, task.version)
    assert task.refresh().result == payload


@pytest.mark.parametrize(
    "value",
    [
        2**64 - 1,
        -(2**63),
        2**53 + 1,
        0.1,
        123456789.12345679,
        5e-324,
        -1.5e-7,
        "a\u20ac\U0001f600",
        [None, True, {"deep": [[1.5]]}],
    ],
    ids=repr,
)
def test_numbers_and_texts_survive(client: Any, value: Any) -> None:
    task = client.tasks.submit("demo.echo", {"value": value})
    assert repr(task.payload["value"]) == repr(value)
    assert repr(task.wait(timeout=30).result["value"]) == repr(value)


def test_events_go_from_the_first_to_the_final_one(client: Any) -> None:
    task = client.tasks.submit("demo.echo", {})
    events = list(task.events())
    types = [event.type for event in events]
    assert (types[0], types[-1]) == ("task.created", "task.succeeded")
    assert "task.started" in types
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert {event.subject for event in events} == {task.id}
    assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].data["status"] == "success"
    assert list(client.tasks.events(task.id, after=events[-2].sequence)) == events[-1:]
    assert list(client.tasks.events(task.id, after=events[-1].sequence)) == []


def test_a_failure_is_told_and_raised_where_wanted(client: Any) -> None:
    task = client.tasks.submit("demo.fail", {})
    found = client.tasks.wait(task.id, timeout=30)
    assert (found.status, found.done, found.succeeded) == ("failed", True, False)
    assert (found.error.code, found.error.message) == ("INVALID_DATA", "failed as asked")
    with pytest.raises(TaskFailed, match="failed as asked") as caught:
        task.wait(timeout=30, raise_on_failure=True)
    assert caught.value.task.id == task.id


def test_a_task_that_failed_is_retried(client: Any) -> None:
    task = client.tasks.submit("demo.fail", {}).wait(timeout=30)
    assert task.retry().done is False
    assert task.wait(timeout=30).status == "failed"
    types = [event.type for event in task.events()]
    assert types.count("task.redriven") == 1
    assert types[-1] == "task.failed"


def test_a_task_that_failed_is_retried_with_another_payload(client: Any) -> None:
    task = client.tasks.submit("demo.fail", {}).wait(timeout=30)
    again = client.tasks.retry(task.id, payload={"message": "failed as asked"})
    assert (again.id, again.payload) == (task.id, {"message": "failed as asked"})
    assert task.retry_of is None
    assert client.tasks.wait(task.id, timeout=30).status == "failed"


def test_a_task_is_run_once_more_as_a_new_one(client: Any, tag: str) -> None:
    task = client.tasks.submit("demo.echo", {"n": 1}, tags=[tag], priority=3).wait(timeout=30)
    again = client.tasks.rerun(task.id)
    assert (again.retry_of, again.payload, again.tags) == (task.id, {"n": 1}, [tag])
    assert again.id != task.id
    other = task.rerun(payload={"n": 2}, idempotency_key=tag)
    assert (other.retry_of, other.payload) == (task.id, {"n": 2})
    assert task.rerun(payload={"n": 2}, idempotency_key=tag).id == other.id
    assert (task.payload, task.done) == ({"n": 1}, True)
    assert other.wait(timeout=30).result == {"n": 2}
    assert {one.id for one in client.tasks.list(tag=tag)} == {task.id, again.id, other.id}


def test_a_task_that_waits_is_changed(client: Any, tag: str) -> None:
    given = {"tenant": "acme", "box": {"a": 1, "b": 2}}
    task = client.tasks.submit("demo.echo", {}, delay=3600, tags=[tag], metadata=given)
    found = client.tasks.update(task.id, priority=9, queue=f"queue-{tag[:8]}", tags=[tag, "vip"])
    assert (found.priority, found.queue, set(found.tags)) == (9, f"queue-{tag[:8]}", {tag, "vip"})
    assert (found.metadata, found.state) == (given, "scheduled")
    assert found.version > task.version
    assert task.update(metadata={"tenant": None, "box": {"b": 3}}).metadata == {
        "box": {"a": 1, "b": 3}
    }
    assert (task.priority, task.run_at is None) == (9, False)
    assert task.update(tags=None, metadata=None, queue="default").tags == []
    assert task.metadata == {}
    assert task.update(run_at=None).wait(timeout=30).succeeded
    assert [event.type for event in task.events()].count("task.updated") == 4


def test_a_change_may_be_for_one_version_alone(client: Any) -> None:
    task = client.tasks.submit("demo.echo", {}, delay=3600)
    client.tasks.update(task.id, priority=1)
    with pytest.raises(Conflict) as caught:
        task.update(priority=2, version=task.version)
    assert (caught.value.status, caught.value.code) == (412, "precondition_failed")
    assert task.refresh().priority == 1
    assert task.update(priority=2, version=task.version).priority == 2
    task.cancel()
    with pytest.raises(Conflict) as caught:
        task.update(priority=3)
    assert (caught.value.status, caught.value.code) == (409, "state_conflict")


def test_a_list_may_ask_for_several_tags_and_statuses(client: Any, tag: str) -> None:
    def submit(*tags: str) -> str:
        return str(client.tasks.submit("demo.echo", {}, delay=3600, tags=[tag, *tags]).id)

    both, one, other = submit("a,b", "c"), submit("a,b"), submit("c")
    assert [found.id for found in client.tasks.list(tag=[tag, "a,b", "c"])] == [both]
    assert [found.id for found in client.tasks.list(tag=("a,b", tag))] == [one, both]
    client.tasks.cancel(other)
    statuses = ["cancelled", "failed"]
    assert [found.id for found in client.tasks.list(tag=tag, status=statuses)] == [other]
    shown = client.request("GET", "/tasks", params={"tag": [tag, "c"], "limit": 5})["results"]
    assert [found["id"] for found in shown] == [other, both]


def test_several_of_what_takes_one_and_none_of_what_takes_several_are_refused(client: Any) -> None:
    with pytest.raises(TypeError, match="queue takes one value"):
        list(client.tasks.list(queue=["a", "b"]))
    for name in ("tag", "status"):
        with pytest.raises(ValidationRefused):
            list(client.tasks.list(**{name: []}))


def test_a_wait_ends_at_its_time(client: Any) -> None:
    task = client.tasks.submit("demo.echo", {}, delay=3600)
    with pytest.raises(WaitTimeout) as caught:
        client.tasks.wait(task.id, timeout=0.3)
    assert caught.value.task.status == "pending"
    assert client.tasks.cancel(task.id).status == "cancelled"


def test_a_cancel_may_be_repeated_and_a_finished_task_is_not_cancelled(client: Any) -> None:
    task = client.tasks.submit("demo.echo", {}, delay=3600)
    assert task.cancel("no need").status == "cancelled"
    done = client.tasks.submit("demo.echo", {}).wait(timeout=30)
    with pytest.raises(Conflict) as caught:
        done.cancel()
    assert (caught.value.status, caught.value.code) == (409, "state_conflict")
    with pytest.raises(Conflict):
        done.retry()


def test_a_list_goes_over_all_pages(client: Any, tag: str) -> None:
    items = [{"type": "demo.echo", "payload": {"n": n}, "tags": [tag]} for n in range(450)]
    found = client.tasks.submit_many(items)
    assert (len(found.ids), found.rejected) == (450, [])
    listed = [task.id for task in client.tasks.list(tag=tag)]
    assert sorted(listed) == sorted(found.ids)
    assert [task.id for task in client.tasks.list(tag=tag, limit=201)] == listed[:201]
    assert list(client.tasks.list(tag=tag, limit=0)) == []
    waiting = client.tasks.list(tag=tag, status=["failed", "timeout"])
    assert list(waiting) == []


def test_of_many_those_that_are_wrong_are_told_with_their_place(client: Any, tag: str) -> None:
    items = [{"type": "demo.echo", "tags": [tag]}] * 1200
    items[1100] = {"type": "no.such", "tags": [tag]}
    found = client.tasks.submit_many(items)
    [(place, refused)] = found.rejected
    assert (place, refused.status, refused.code) == (1100, 404, "unknown_task_type")
    assert len(set(found.ids)) == 1199


def test_many_again_with_the_same_key_are_submitted_once(client: Any, tag: str) -> None:
    items = [{"type": "demo.echo", "tags": [tag], "delay": 3600}] * 3
    first = client.tasks.submit_many(iter(items), idempotency_key=tag)
    assert client.tasks.submit_many(iter(items), idempotency_key=tag) == first
    assert len(list(client.tasks.list(tag=tag))) == 3


def test_a_key_makes_one_task_and_may_not_be_used_for_another(client: Any, tag: str) -> None:
    first = client.tasks.submit("demo.echo", {"n": 1}, idempotency_key=tag)
    assert client.tasks.submit("demo.echo", {"n": 1}, idempotency_key=tag).id == first.id
    assert client.tasks.submit("demo.echo", {"n": 1}).id != first.id
    with pytest.raises(ValidationRefused) as caught:
        client.tasks.submit("demo.echo", {"n": 2}, idempotency_key=tag)
    assert caught.value.code == "idempotency_mismatch"


def test_refusals_carry_the_fields_of_the_problem(client: Any) -> None:
    with pytest.raises(NotFound) as missing:
        client.tasks.get(uuid.uuid4())
    assert (missing.value.status, missing.value.code) == (404, "task_not_found")
    assert missing.value.request_id
    with pytest.raises(NotFound) as unknown:
        client.tasks.submit("no.such")
    assert unknown.value.code == "unknown_task_type"
    assert "no.such" in unknown.value.detail
    with pytest.raises(ValidationRefused) as wrong:
        client.tasks.submit("demo.echo", {}, prioritty=3)
    assert (wrong.value.status, wrong.value.code) == (422, "validation_failed")
    assert [one["pointer"] for one in wrong.value.errors] == ["/prioritty"]
    assert "/prioritty" in str(wrong.value)


def test_a_queue_is_paused_and_resumed(client: Any, tag: str) -> None:
    queue = f"queue-{tag[:8]}"
    task = client.tasks.submit("demo.echo", {}, queue=queue, delay=3600)
    assert client.queues.pause(queue, "stocktaking")["is_paused"] is True
    assert client.queues.get(queue)["is_paused"] is True
    assert queue in {one["name"] for one in client.queues.list()}
    assert client.queues.resume(queue)["is_paused"] is False
    assert task.cancel().status == "cancelled"


def test_the_platform_tells_of_itself(client: Any) -> None:
    assert client.health()["status"] == "ok"
    assert "demo.echo" in {one["type"] for one in client.task_types.list()}
    assert client.task_types.get("demo.echo")["type"] == "demo.echo"
    assert isinstance(client.workers.list(), list)
    assert isinstance(list(client.schedules.list()), list)
    assert client.request("GET", "/task-types")["results"]
    assert client.request("get", "/api/v1/tasks", params={"limit": 1})["results"] is not None


def test_what_is_no_id_is_not_asked_for(client: Any) -> None:
    for wrong in ("../queues", "x", "", 7, None):
        for ask in (client.tasks.get, client.tasks.cancel, client.tasks.rerun):
            with pytest.raises(ValueError, match="is no UUID") as caught:
                ask(wrong)
            told = str(caught.value)
            assert told.startswith(repr(wrong))
            assert "such as 0196f3c2-" in told
            assert "a task's id is `task.id` of what submit() and list() give" in told
    with pytest.raises(ValueError, match="is no UUID"):
        list(client.tasks.events("x"))
