"""Server-sent events of a real web process, read over HTTP."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.engine_loops import engine_loops
from tasks_app.feed import PUBLIC_EVENTS
from tasks_app.loops import Stop
from tasks_app.management.commands.engine import make_loop
from tests.factories import drive, make_key, make_task, make_tenant
from tests.integration.test_relay import lives, new_task
from tests.processes import wait_for
from tests.relays import feed_rows, relay
from tests.web import SentEvent, Web, streaming, web

pytestmark = pytest.mark.django_db(transaction=True)

Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def server(valkey: Any) -> Iterator[Web]:
    with web(TASKMILL_STREAM_HEARTBEAT_SECONDS="0.2", TASKMILL_MAX_STREAMS_PER_KEY="60") as found:
        yield found


def run(server: Web, scenario: Scenario, tenant: str = "acme") -> None:
    token = make_key(make_tenant(tenant))

    async def main() -> None:
        client = httpx.AsyncClient(
            base_url=f"{server.url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
            limits=httpx.Limits(max_connections=None),
        )
        async with client, asyncio.timeout(90):
            await scenario(client)

    asyncio.run(main())


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    def call() -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return await sync_to_async(call, thread_sensitive=False)()


def sequence() -> None:
    with relay() as one:
        one.drain()


def step(task_id: uuid.UUID, state: str) -> None:
    drive(task_id, state)
    sequence()


def application_connections(*names: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = ANY(%s)",
            [[f"taskmill-{name}" for name in names]],
        )
        return int(cursor.fetchone()[0])


def test_a_stream_begins_with_a_snapshot_and_ends_with_the_final_event(server: Web) -> None:
    task_id = make_task(make_tenant("acme"), payload={"a": 1})
    sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        async with streaming(client, f"/tasks/{task_id}/stream") as events:
            seen: list[SentEvent] = []
            async for event in events:
                seen.append(event)
                if event.type == "task.snapshot":
                    await in_thread(step, task_id, "success")
        headers = events.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert headers["x-accel-buffering"] == "no"
        assert headers["cache-control"] == "no-store"
        assert events.retry > 0
        assert [one.type for one in seen] == ["task.snapshot", "task.started", "task.succeeded"]
        assert seen[0].data["data"]["payload"] == {"a": 1}
        assert [int(one.id) for one in seen] == [one.data["sequence"] for one in seen] == [1, 2, 3]
        assert seen[2].data["subject"] == str(task_id)
        done = await client.get(f"/tasks/{task_id}/stream", headers={"Last-Event-ID": seen[2].id})
        assert (done.status_code, done.content) == (204, b"")
        again = await client.get(f"/tasks/{task_id}/stream?last_event_id=1")
        assert [line for line in again.text.split("\n") if line.startswith("event")] == [
            "event: task.started",
            "event: task.succeeded",
        ]

    run(server, scenario)


def test_a_cursor_that_is_not_in_the_feed_gets_a_reset_and_a_snapshot(server: Web) -> None:
    task_id = make_task(make_tenant("acme"), state="success")
    sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        for cursor in ("0", "99"):
            path = f"/tasks/{task_id}/stream?last_event_id={cursor}"
            async with streaming(client, path) as events:
                found = [event.type async for event in events]
            assert found == ["stream.reset", "task.snapshot"], cursor
        refused = await client.get(f"/tasks/{task_id}/stream?last_event_id=x")
        assert refused.status_code == 422

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_feed SET first_sequence = first_sequence + 5,"
            " last_sequence = last_sequence + 5"
        )
    run(server, scenario)


def test_a_silent_stream_sends_comments(server: Web) -> None:
    task_id = make_task(make_tenant("acme"))
    sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        async with streaming(client, f"/tasks/{task_id}/stream") as events:
            lines = events.response.aiter_lines()
            comments = 0
            async for line in lines:
                comments += line.startswith(":")
                if comments == 2:
                    break

    run(server, scenario)


def test_a_multiplexed_stream_has_what_fits_its_filters_and_nothing_else(server: Web) -> None:
    acme, other = make_tenant("acme"), make_tenant("other")
    vip = make_task(acme, tags=["vip"])
    plain = make_task(acme)
    sequence()

    def finish_all() -> None:
        make_task(other, state="success", tags=["vip"])
        drive(vip, "success")
        drive(plain, "success")
        sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        wanted = {
            "types=task.succeeded": [("task.succeeded", vip), ("task.succeeded", plain)],
            "tags=vip": [("task.started", vip), ("task.succeeded", vip)],
            f"tasks={plain}": [
                ("task.snapshot", plain),
                ("task.started", plain),
                ("task.succeeded", plain),
            ],
            "types=task.succeeded&tags=vip,none": [("task.succeeded", vip)],
        }
        async with AsyncExitStack() as stack:
            streams = [
                aiter(await stack.enter_async_context(streaming(client, f"/events/stream?{query}")))
                for query in wanted
            ]
            await in_thread(finish_all)
            for stream, expected in zip(streams, wanted.values(), strict=True):
                found = [await anext(stream) for _ in expected]
                assert [(one.type, one.data["subject"]) for one in found] == [
                    (kind, str(task_id)) for kind, task_id in expected
                ]
        for query in ("types=task.none", "tasks=" + ",".join([str(plain)] * 101)):
            assert (await client.get(f"/events/stream?{query}")).status_code == 422
        assert (await client.get(f"/events/stream?tasks={uuid.uuid4()}")).status_code == 404

    run(server, scenario)


def test_fifty_streams_hold_no_connections_and_leave_nothing_behind(server: Web) -> None:
    acme = make_tenant("acme")
    task_ids = [make_task(acme) for _ in range(5)]
    sequence()

    def finish_all() -> None:
        for task_id in task_ids:
            drive(task_id, "success")
        sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(
                    streaming(client, f"/tasks/{task_ids[n % 5]}/stream")
                )
                for n in range(50)
            ]
            readers = [aiter(stream) for stream in streams]
            for reader in readers:
                assert (await anext(reader)).type == "task.snapshot"
            assert await in_thread(application_connections, "feed", "replay") <= 2
            extra = [
                await client.send(
                    client.build_request("GET", f"/tasks/{task_ids[0]}/stream"), stream=True
                )
                for _ in range(11)
            ]
            assert [one.status_code for one in extra] == [200] * 10 + [429]
            for one in extra:
                await one.aclose()
            await in_thread(finish_all)
            for reader in readers:
                assert [event.type async for event in reader] == ["task.started", "task.succeeded"]

    run(server, scenario)
    wait_for(lambda: application_connections("feed", "replay") == 0, seconds=15)


def test_a_client_that_leaves_makes_room_within_a_second(server: Web) -> None:
    task_id = make_task(make_tenant("acme"))
    sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        path = f"/tasks/{task_id}/stream"

        async def status() -> int:
            async with client.stream("GET", path) as response:
                return response.status_code

        async def hold() -> httpx.Response:
            return await client.send(client.build_request("GET", path), stream=True)

        held = [await hold() for _ in range(60)]
        readers = [one.aiter_bytes() for one in held]  # a dropped one would hang up
        for reader in readers:
            assert (await anext(reader)).startswith(b"retry")
        assert await status() == 429
        for one in held:
            await one.aclose()
        async with asyncio.timeout(1.0):
            while await status() == 429:
                await asyncio.sleep(0.02)

    run(server, scenario)


def test_the_server_stops_at_once_with_streams_open(server: Web) -> None:
    task_id = make_task(make_tenant("acme"))
    sequence()

    async def scenario(client: httpx.AsyncClient) -> None:
        async with streaming(client, f"/tasks/{task_id}/stream") as events:
            async for event in events:
                assert event.type == "task.snapshot"
                server.process.popen.terminate()

    run(server, scenario)
    server.process.popen.wait(3)


def test_streams_end_with_their_key(server: Web) -> None:
    task_id = make_task(make_tenant("acme"))
    sequence()

    def revoke() -> None:
        connection.cursor().execute("UPDATE taskmill_api_key SET revoked_at = taskmill_now()")

    async def scenario(client: httpx.AsyncClient) -> None:
        async with streaming(client, f"/tasks/{task_id}/stream") as events:
            async for _ in events:
                await in_thread(revoke)

    run(server, scenario)


async def follow(
    client: httpx.AsyncClient, path: str, wanted: int, chance: random.Random
) -> list[SentEvent]:
    """Read a stream as a browser would, hanging up at random and resuming."""
    seen: list[SentEvent] = []
    last = "0"
    while len(seen) < wanted:
        patience = chance.uniform(0.02, 0.6)
        try:
            async with (
                asyncio.timeout(patience),
                streaming(client, path, Last_Event_ID=last) as events,
            ):
                async for event in events:
                    seen.append(event)
                    last = event.id
        except TimeoutError:
            continue
    return seen


def test_readers_that_reconnect_at_random_see_every_event_once_in_order(server: Web) -> None:
    """C15, with transactions that stay open and commit late, and the relay running beside."""
    tenant = make_tenant("acme")
    faults: list[BaseException] = []
    stop = Stop()

    def write() -> None:
        with connect("late") as late, late.transaction():
            new_task(late.cursor(), tenant.pk)
            lives(tenant.pk, 1, faults)

    async def scenario(client: httpx.AsyncClient) -> None:
        writers = [
            asyncio.create_task(in_thread(write)),
            asyncio.create_task(in_thread(lives, tenant.pk, 2, faults)),
        ]
        relaying = asyncio.create_task(
            in_thread(make_loop(engine_loops()["relay"], conf(), stop).run)
        )
        readers = [
            asyncio.create_task(follow(client, "/events/stream", 200, random.Random(n)))
            for n in range(8)
        ]
        await asyncio.gather(*writers)
        found = await asyncio.gather(*readers)
        stop.set()
        await relaying
        expected = [row[0] for row in await in_thread(feed_rows)]
        assert expected == list(range(1, len(expected) + 1))
        for seen in found:
            places = [event.data["sequence"] for event in seen]
            assert places == expected[: len(places)]
            assert len(places) >= 200

    run(server, scenario)
    assert faults == []


def test_only_public_events_are_streamed_unless_named() -> None:
    assert "task.dispatched" not in PUBLIC_EVENTS
    assert {"task.created", "task.progress", "task.succeeded"} <= PUBLIC_EVENTS
