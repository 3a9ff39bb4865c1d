"""Waits over HTTP whose end cannot be told, and hubs that meet what nobody foresaw."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from django.db import OperationalError, connection

from tasks_app.api import waiting, waiting_views
from tasks_app.api.waiting import WaitingHub
from tasks_app.feed import FeedHub
from tests.factories import make_task, make_tenant
from tests.integration.test_feed_hub import first_of, last_sequence, sequence, step, watching
from tests.integration.test_tasks_api_waits import finish, in_thread, make, run, until, waits

pytestmark = pytest.mark.django_db(transaction=True)
ECHO = {"type": "tests.echo", "payload": {}}


def is_away(**_: Any) -> Any:
    raise OperationalError("the connection is lost")


def is_broken(**_: Any) -> Any:
    raise RuntimeError("a fault of ours")


def ring(channel: str, payload: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


@pytest.mark.parametrize("reads", ["find_task", "waiting_reasons"])
def test_a_submission_whose_end_cannot_be_read_is_still_accepted(
    monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    monkeypatch.setattr(waiting_views, reads, is_away)

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/tasks", json=ECHO, headers={"Prefer": "wait=1"})
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        assert answer.headers["Location"] == f"/api/v1/tasks/{answer.json()['id']}"
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["watch"]["token"]

    run(scenario)


def test_a_long_poll_whose_end_cannot_be_read_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = make()
    monkeypatch.setattr(waiting_views, "find_task", is_away)

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/tasks/{task_id}", headers={"Prefer": "wait=1"})
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["Retry-After"] == "1"

    run(scenario)


def test_a_fault_at_the_end_of_a_wait_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = make()
    monkeypatch.setattr(waiting_views, "find_task", is_broken)

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/tasks/{task_id}", headers={"Prefer": "wait=1"})
        assert answer.status_code == 500
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["request_id"]

    run(scenario)


def test_a_bell_that_names_no_task_deafens_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_RUNG", 60.0)
    monkeypatch.setattr(waiting, "LONGEST_BACKOFF", 60.0)

    async def scenario(client: httpx.AsyncClient) -> None:
        submit = asyncio.create_task(
            client.post("/tasks", json=ECHO, headers={"Prefer": "wait=30"})
        )
        await until(waits(1))
        await in_thread(ring, "taskmill_ended", "")
        (task,) = (await client.get("/tasks?limit=1")).json()["results"]
        async with asyncio.timeout(15):
            await in_thread(finish, task["id"])
            assert (await submit).json()["status"] == "success"

    run(scenario)


def test_a_waiting_hub_that_failed_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    task_id, failures, tell = make(), [], WaitingHub._tell

    def fails_once(hub: WaitingHub, *found: Any) -> bool:
        if not failures:
            failures.append(found)
            raise RuntimeError("a fault of ours")
        return tell(hub, *found)

    monkeypatch.setattr(WaitingHub, "_tell", fails_once)

    async def scenario(client: httpx.AsyncClient) -> None:
        poll = asyncio.create_task(client.get(f"/tasks/{task_id}", headers={"Prefer": "wait=30"}))
        await until(lambda: bool(failures))
        await in_thread(finish, task_id)
        async with asyncio.timeout(15):
            assert (await poll).json()["status"] == "success"

    run(scenario)


def test_a_feed_hub_that_failed_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    acme = make_tenant("acme")
    task = make_task(acme)
    sequence()
    after, failures, page = last_sequence(), [], FeedHub._page

    async def fails_once(hub: FeedHub, *place: Any) -> Any:
        if not failures:
            failures.append(place)
            raise RuntimeError("a fault of ours")
        return await page(hub, *place)

    monkeypatch.setattr(FeedHub, "_page", fails_once)

    async def scenario() -> list[tuple[uuid.UUID | None, str]]:
        hub = FeedHub()
        async with watching(hub, task, acme.pk, after) as subscription:
            await hub.started()
            await in_thread(ring, "taskmill_feed", "no number")
            await in_thread(step, task)
            await in_thread(sequence)
            return await first_of(subscription)

    assert (task, "task.started") in asyncio.run(scenario())
    assert failures
