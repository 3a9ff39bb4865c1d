"""What only the fake can do: tasks held, progress on call, refusals on call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from taskmill_client import (
    Client,
    NotFound,
    ServerUnavailable,
    Task,
    TaskFailed,
    TooManyRequests,
    ValidationRefused,
    WaitTimeout,
)
from taskmill_client.testing import FakeServer


@pytest.fixture
def fake() -> FakeServer:
    return FakeServer()


def test_a_held_task_waits_until_it_is_finished(fake: FakeServer) -> None:
    fake.holds("shop.pack")
    with fake.client() as client:
        task = client.tasks.submit("shop.pack", {"order_id": 3})
        assert task.refresh().status == "pending"
        with pytest.raises(WaitTimeout):
            task.wait(timeout=0.1)
        fake.report(task.id, 50, "half", current=1, total=2)
        assert task.refresh().status == "processing"
        found = task.progress
        assert (found.percent, found.message, found.current, found.total) == (50.0, "half", 1, 2)
        fake.finish(task.id, {"packed": 2})
        assert task.wait(timeout=5).result == {"packed": 2}
        types = [event.type for event in task.events()]
    assert types == ["task.created", "task.started", "task.progress", "task.succeeded"]


def test_what_happens_meanwhile_is_seen_by_who_follows_and_who_waits(fake: FakeServer) -> None:
    fake.holds("shop.pack")
    with fake.client() as client:
        task = client.tasks.submit("shop.pack")
        types: list[str] = []
        seen: list[float] = []

        def note(one: Task) -> None:
            seen.append(one.progress.percent)

        follow = threading.Thread(
            target=lambda: types.extend(event.type for event in client.tasks.events(task.id))
        )
        wait = threading.Thread(
            target=lambda: client.tasks.wait(task.id, timeout=30, on_progress=note)
        )
        for one in (follow, wait):
            one.start()
        fake.report(task.id, 50)
        fake.finish(task.id)
        for one in (follow, wait):
            one.join(30)
    assert types == ["task.created", "task.started", "task.progress", "task.succeeded"]
    assert seen[-1] == 100.0


@pytest.mark.parametrize("status", ["failed", "error", "timeout", "cancelled"])
def test_a_task_ends_badly_as_told(fake: FakeServer, status: str) -> None:
    fake.fails("shop.pack", "NO_STOCK", "none left", status=status)
    with fake.client() as client, pytest.raises(TaskFailed, match="none left") as caught:
        client.tasks.submit("shop.pack").wait(raise_on_failure=True)
    assert caught.value.task.status == status
    assert caught.value.task.error is not None
    assert caught.value.task.error.code == "NO_STOCK"


def test_the_next_requests_are_refused_as_told(fake: FakeServer) -> None:
    fake.succeeds("shop.pack", 1)
    with fake.client(retries=1) as client:
        fake.refuses_next(429, "rate_limited", retry_after=0)
        task = client.tasks.submit("shop.pack")
        fake.refuses_next(429, "rate_limited", retry_after=0, times=2)
        with pytest.raises(TooManyRequests) as caught:
            task.refresh()
        assert caught.value.code == "rate_limited"
        fake.refuses_next(503, times=2)
        with pytest.raises(ServerUnavailable):
            task.refresh()
        assert task.refresh().result == 1
    assert len(fake.submitted) == 1


def test_many_that_are_refused_midway_say_how_to_go_on(fake: FakeServer) -> None:
    fake.succeeds("shop.pack", 1)
    items = [{"type": "shop.pack", "payload": {"n": n}} for n in range(2500)]

    def interrupted() -> Iterator[dict[str, Any]]:
        for item in items:
            if item["payload"]["n"] == 1999:
                fake.refuses_next(422, "validation_failed")
            yield item

    with fake.client() as client:
        with pytest.raises(ValidationRefused) as caught:
            client.tasks.submit_many(interrupted(), idempotency_key="import-7")
        [note] = caught.value.__notes__
        assert "1000 items were dealt with" in note
        assert "idempotency_key='import-7'" in note
        assert len(client.tasks.submit_many(items, idempotency_key="import-7").ids) == 2500
    assert len(fake.submitted) == 2500


def test_what_was_not_scripted_is_unknown(fake: FakeServer) -> None:
    with fake.client() as client:
        with pytest.raises(NotFound, match=r"shop\.pack"):
            client.tasks.submit("shop.pack")
        with pytest.raises(NotFound, match="nothing at this address"):
            client.request("GET", "/dead-letters")
        with pytest.raises(ValidationRefused):
            client.request("POST", "/tasks", json=[])
    assert fake.submitted == []


def test_a_paused_queue_runs_nothing_and_a_late_task_is_late(fake: FakeServer) -> None:
    fake.succeeds("shop.pack", 1)
    with fake.client() as client:
        client.queues.pause("default")
        task = client.tasks.submit("shop.pack")
        later = client.tasks.submit("shop.pack", delay=60, queue="other")
        assert (task.refresh().status, later.refresh().state) == ("pending", "scheduled")
        client.queues.resume("default")
        assert task.refresh().status == "success"


def test_an_application_s_own_http_client_may_be_used(fake: FakeServer) -> None:
    fake.succeeds("shop.pack", 1)
    http = httpx.Client(transport=fake.transport())
    with Client("http://anything", "tm_x", http=http) as client:
        assert client.tasks.submit("shop.pack").wait().result == 1
    assert not http.is_closed


def test_the_asynchronous_client_is_answered_too(fake: FakeServer) -> None:
    fake.succeeds("shop.pack", lambda payload: payload["order_id"])

    async def main() -> list[int]:
        async with fake.async_client() as client:
            tasks = [await client.tasks.submit("shop.pack", {"order_id": n}) for n in range(3)]
            return [(await task.wait()).result for task in tasks]

    assert asyncio.run(main()) == [0, 1, 2]
