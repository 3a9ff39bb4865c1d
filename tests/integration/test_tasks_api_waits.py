"""Waiting over HTTP: long polls and `Prefer: wait`, through the ASGI application."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from config.asgi import application
from tasks_app.api import waiting
from tasks_app.api.waiting import waiting_hub
from tasks_app.db import connect
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import claim, drive, make_key, make_task, make_tenant

pytestmark = pytest.mark.django_db(transaction=True)

Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


def run(scenario: Scenario) -> None:
    """Run a scenario against the application with a key of the tenant `acme`."""
    token = make_key(make_tenant("acme"))

    async def main() -> None:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=application),
            base_url="http://localhost/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
        async with client, asyncio.timeout(60):
            await scenario(client)

    asyncio.run(main())


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Do database work as another process would: committed, on a connection of its own."""

    def call() -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return await sync_to_async(call, thread_sensitive=False)()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def waits(number: int) -> Callable[[], bool]:
    return lambda: waiting_hub().waiters == number


def make(state: str = "queued") -> str:
    return str(make_task(make_tenant("acme"), state=state))


def test_a_long_poll_returns_once_the_task_changes() -> None:
    task_id = make("dispatched")

    async def scenario(client: httpx.AsyncClient) -> None:
        etag = (await client.get(f"/tasks/{task_id}")).headers["ETag"]
        headers = {"If-None-Match": etag, "Prefer": "wait=30"}
        poll = asyncio.create_task(client.get(f"/tasks/{task_id}", headers=headers))
        await until(waits(1))
        assert not poll.done()
        await in_thread(make_running, task_id)
        response = await poll
        assert (response.status_code, response.json()["state"]) == (200, "running")
        assert response.headers["ETag"] != etag
        assert response.headers["Preference-Applied"] == "wait=30"
        assert response.headers["Retry-After"] == "1"

    run(scenario)


def make_running(task_id: str) -> None:
    claim(uuid.UUID(task_id))


def finish(task_id: str) -> None:
    drive(uuid.UUID(task_id), "success")


@pytest.mark.parametrize("seconds", ["61", "99999999999999", "9" * 5_000, "0" * 20 + "60"])
def test_whoever_asks_to_wait_longer_than_one_may_waits_as_long_as_one_may(seconds: str) -> None:
    task_id = make()

    async def scenario(client: httpx.AsyncClient) -> None:
        headers = {"Prefer": f"wait={seconds}"}
        poll = asyncio.create_task(client.get(f"/tasks/{task_id}", headers=headers))
        await until(lambda: poll.done() or waits(1)())
        await in_thread(finish, task_id)
        response = await poll
        assert response.json()["done"] is True
        assert response.headers["Preference-Applied"] == "wait=60"

    run(scenario)


def test_a_long_poll_over_nothing_is_a_304_when_its_time_is_over() -> None:
    task_id = make()

    async def scenario(client: httpx.AsyncClient) -> None:
        etag = (await client.get(f"/tasks/{task_id}")).headers["ETag"]
        headers = {"If-None-Match": etag, "Prefer": "wait=1"}
        response = await client.get(f"/tasks/{task_id}", headers=headers)
        assert (response.status_code, response.content) == (304, b"")
        other = {"If-None-Match": '"99"', "Prefer": "wait=30"}
        assert (await client.get(f"/tasks/{task_id}", headers=other)).status_code == 200

    run(scenario)


def test_a_finished_task_is_not_waited_for() -> None:
    task_id = make("success")

    async def scenario(client: httpx.AsyncClient) -> None:
        path = f"/tasks/{task_id}"
        plain = await client.get(path, headers={"Prefer": "wait=30"})
        assert (plain.status_code, "Preference-Applied" in plain.headers) == (200, False)
        headers = {"If-None-Match": plain.headers["ETag"], "Prefer": "wait=30"}
        assert (await client.get(path, headers=headers)).status_code == 304

    run(scenario)


def test_a_submission_that_waits_is_answered_with_the_final_state() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        body = {"type": "tests.echo", "payload": {"a": 1}}
        headers = {"Prefer": "wait=30", "Idempotency-Key": "one"}
        submit = asyncio.create_task(client.post("/tasks", json=body, headers=headers))
        await until(waits(1))
        (task,) = (await client.get("/tasks")).json()["results"]
        await in_thread(finish, task["id"])
        response = await submit
        assert response.status_code == 200
        assert response.headers["Preference-Applied"] == "wait=30"
        assert response.headers["Location"] == f"/api/v1/tasks/{task['id']}"
        assert "Retry-After" not in response.headers
        assert (response.json()["status"], response.json()["result"]) == ("success", {"ok": True})
        replay = await client.post("/tasks", json=body, headers=headers)
        assert (replay.status_code, replay.json()["status"]) == (200, "success")

    run(scenario)


def test_a_submission_that_waits_in_vain_is_a_202() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        headers = {"Prefer": "wait=1"}
        response = await client.post("/tasks", json={"type": "tests.echo"}, headers=headers)
        assert (response.status_code, response.json()["status"]) == (202, "pending")
        assert response.headers["Retry-After"] == "1"

    run(scenario)


def test_many_waits_hold_neither_threads_nor_connections() -> None:
    task_ids = [make() for _ in range(40)]

    async def scenario(client: httpx.AsyncClient) -> None:
        headers = {"Prefer": "wait=30"}
        polls = [
            asyncio.create_task(client.get(f"/tasks/{task_id}", headers=headers))
            for task_id in task_ids
        ]
        await until(waits(40))
        assert (await client.get("/tasks?limit=1")).status_code == 200
        for task_id in task_ids:
            await in_thread(finish, task_id)
        answers = await asyncio.gather(*polls)
        assert {answer.json()["status"] for answer in answers} == {"success"}
        assert waiting_hub().waiters == 0

    run(scenario)


def test_a_client_that_leaves_frees_its_wait() -> None:
    task_id = make()

    async def scenario(client: httpx.AsyncClient) -> None:
        poll = asyncio.create_task(client.get(f"/tasks/{task_id}", headers={"Prefer": "wait=30"}))
        await until(waits(1))
        poll.cancel()
        await until(waits(0))

    run(scenario)


def test_a_key_has_a_bounded_number_of_waits(settings: Any) -> None:
    settings.TASKMILL = dataclasses.replace(settings.TASKMILL, max_waits_per_key=1)
    task_id = make()

    async def scenario(client: httpx.AsyncClient) -> None:
        headers = {"Prefer": "wait=30"}
        poll = asyncio.create_task(client.get(f"/tasks/{task_id}", headers=headers))
        await until(waits(1))
        refused = await client.get(f"/tasks/{task_id}", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.headers["Retry-After"] == "1"
        accepted = await client.post("/tasks", json={"type": "tests.echo"}, headers=headers)
        assert accepted.status_code == 202
        poll.cancel()
        await until(waits(0))

    run(scenario)


def cut_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'taskmill-waiting'"
        )
        return int(cursor.fetchone()[0])


def test_waits_survive_the_loss_of_their_connection() -> None:
    task_id = make()

    async def scenario(client: httpx.AsyncClient) -> None:
        poll = asyncio.create_task(client.get(f"/tasks/{task_id}", headers={"Prefer": "wait=30"}))
        await until(waits(1))
        async with asyncio.timeout(20):
            while not await in_thread(cut_connections):
                await asyncio.sleep(0.01)
        await in_thread(finish, task_id)
        assert (await poll).json()["status"] == "success"

    run(scenario)


LISTENERS = """FROM pg_stat_activity WHERE application_name = 'taskmill-waiting'
    AND query = 'LISTEN taskmill_ended' AND state = 'idle'"""


def is_listening() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 {LISTENERS}")
        return cursor.fetchone() is not None


def cut_listeners() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(pg_terminate_backend(pid)) {LISTENERS}")
        return int(cursor.fetchone()[0])


async def begin_to_listen(client: httpx.AsyncClient) -> None:
    """Have one wait end; its hub listens for some seconds more."""
    headers = {"Prefer": "wait=1"}
    await client.post("/tasks", json={"type": "tests.echo"}, headers=headers)
    async with asyncio.timeout(20):
        while not await in_thread(is_listening):
            await asyncio.sleep(0.01)


async def ended(client: httpx.AsyncClient, end: Callable[[str], Any]) -> httpx.Response:
    """Submit a task, wait for it, end it, and give the answer."""
    headers = {"Prefer": "wait=30"}
    body = {"type": "tests.echo", "payload": {"of": end.__name__}}
    submit = asyncio.create_task(client.post("/tasks", json=body, headers=headers))
    await until(waits(1))
    (task,) = (await client.get("/tasks?limit=1")).json()["results"]
    await in_thread(end, task["id"])
    return await submit


def fail(task_id: str) -> None:
    drive(uuid.UUID(task_id), "failed")


def cancel(task_id: str) -> None:
    drive(uuid.UUID(task_id), "cancelled")


@pytest.mark.parametrize(("end", "status"), [(finish, "success"), (fail, "failed")])
def test_the_end_of_a_task_that_is_waited_for_rings(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[str], Any], status: str
) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE_RUNG", 60.0)

    async def scenario(client: httpx.AsyncClient) -> None:
        await begin_to_listen(client)
        async with asyncio.timeout(15):
            answer = await ended(client, end)
        assert (answer.status_code, answer.json()["status"]) == (200, status)

    run(scenario)


def test_an_end_that_does_not_ring_is_found_by_looking() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await begin_to_listen(client)
        async with asyncio.timeout(15):
            answer = await ended(client, cancel)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")

    run(scenario)


def test_a_hub_that_lost_its_bell_listens_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await begin_to_listen(client)
        headers = {"Prefer": "wait=30"}
        submit = asyncio.create_task(
            client.post("/tasks", json={"type": "tests.echo"}, headers=headers)
        )
        await until(waits(1))
        assert await in_thread(cut_listeners)
        await begin_to_listen(client)
        monkeypatch.setattr(waiting, "FIRST_PAUSE_RUNG", 60.0)
        submit.cancel()
        await until(waits(0))
        async with asyncio.timeout(15):
            answer = await ended(client, finish)
        assert (answer.status_code, answer.json()["status"]) == (200, "success")

    run(scenario)


def test_a_task_that_nobody_waits_for_rings_for_nobody() -> None:
    with connect("test") as listener:
        listener.execute("LISTEN taskmill_ended")
        awaited = make_task(state="success", is_awaited=True)
        make_task(state="success")
        make_task(state="failed")
        failed = make_task(state="failed", is_awaited=True)
        bells = [bell.payload for bell in listener.notifies(timeout=1)]
    assert bells == [str(awaited), str(failed)]
