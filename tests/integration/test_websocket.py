"""WebSockets of a real web process, read by the stock client."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import orjson
import pytest
from django.db import connection, connections
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.attempts import succeed_one
from tests.factories import drive, make_key, make_task, make_tenant
from tests.processes import wait_for
from tests.relays import relay
from tests.sockets import Socket, opened
from tests.web import Web, web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server(valkey: Any, django_db_setup: None) -> Iterator[Web]:
    with web(
        TASKMILL_MAX_STREAMS_PER_KEY="5",
        TASKMILL_WS_SUBSCRIPTIONS="4",
        TASKMILL_WS_MESSAGES_PER_MINUTE="60",
    ) as found:
        yield found


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    def call() -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(90):
            await scenario()

    asyncio.run(main())


def sequence() -> None:
    with relay() as one:
        one.drain()


def step(task_id: uuid.UUID, state: str) -> None:
    drive(task_id, state)
    sequence()


def kinds(events: list[Any]) -> list[tuple[Any, str, str]]:
    return [(name, event["type"], event["subject"]) for name, event in events]


def feed_connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name IN ('taskmill-feed', 'taskmill-replay')"
        )
        return int(cursor.fetchone()[0])


def test_subscriptions_by_ids_tags_and_types_get_what_fits_and_nothing_of_others(
    server: Web,
) -> None:
    acme, other = make_tenant("acme"), make_tenant("other")
    vip, plain = make_task(acme, tags=["vip"], payload={"a": 1}), make_task(acme)
    theirs = make_task(other, tags=["vip"])
    sequence()
    token = make_key(acme)

    def finish_all() -> None:
        for task_id in (theirs, vip, plain):
            drive(task_id, "success")
        sequence()

    async def scenario() -> None:
        async with opened(server, token) as socket:
            ack = await socket.subscribe("named", tasks=[str(vip), str(plain)])
            assert ack["after"] == "3"
            shown = await socket.events(2)
            assert {event["subject"] for _, event in shown} == {str(vip), str(plain)}
            assert {event["type"] for _, event in shown} == {"task.snapshot"}
            assert {event["sequence"] for _, event in shown} == {3}
            await socket.subscribe(2, tags=["vip"])
            await socket.subscribe(3, types=["task.succeeded"])
            await socket.subscribe(4)
            await in_thread(finish_all)
            found = kinds(await socket.events(4 + 2 + 2 + 4))
            started, succeeded = "task.started", "task.succeeded"
            expected = [(started, vip), (succeeded, vip), (started, plain), (succeeded, plain)]
            everything = [(kind, str(task_id)) for kind, task_id in expected]
            by_name = {
                name: [(kind, subject) for one, kind, subject in found if one == name]
                for name in ("named", 2, 3, 4)
            }
            assert by_name["named"] == by_name[4] == everything
            assert by_name[2] == everything[:2]
            assert by_name[3] == [everything[1], everything[3]]
            assert (await socket.ask("ping", id="p")) == {"op": "pong", "id": "p"}

    run(scenario)


def test_events_look_as_they_do_in_the_other_transports(server: Web) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        async with opened(server, token) as socket:
            await socket.subscribe(after="0")
            [(_, event)] = await socket.events(1)
        assert event["id"] == f"{task_id}.1"
        assert (event["specversion"], event["type"]) == ("1.0", "task.created")
        assert (event["subject"], event["sequence"]) == (str(task_id), 1)
        assert event["data"]["status"] == "pending"

    run(scenario)


def test_a_cursor_replays_what_came_after_it_and_joins_what_comes(server: Web) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    sequence()
    drive(task_id, "running")
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        async with opened(server, token) as socket:
            ack = await socket.subscribe(1, tasks=[str(task_id)], after="1")
            assert ack["after"] == "1"
            [(_, started)] = await socket.events(1)
            assert started["type"] == "task.started"
            ended = await socket.ask("unsubscribe", id=1)
            assert ended == {"op": "ack", "id": 1, "after": str(started["sequence"])}
            await socket.subscribe(1, after=int(ended["after"]))
            await in_thread(progress_and_finish, task_id)
            found = [event["type"] for _, event in await socket.events(2)]
            assert found == ["task.progress", "task.succeeded"]

    run(scenario)


def progress_and_finish(task_id: uuid.UUID) -> None:
    from tasks_app.progress import save_progress

    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch FROM taskmill_task WHERE id = %s", [task_id])
        epoch = cursor.fetchone()[0]
        save_progress(cursor, task_id, epoch=epoch, percent=50, message="half", detail=None)
        succeed_one(cursor, task_id, epoch=epoch)
    sequence()


def test_a_cursor_that_is_not_in_the_feed_is_answered_with_a_reset_and_snapshots(
    server: Web,
) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        async with opened(server, token) as socket:
            ack = await socket.subscribe(1, tasks=[str(task_id)], after="99")
            assert ack["after"] == "1"
            found = [event["type"] for _, event in await socket.events(2)]
            assert found == ["stream.reset", "task.snapshot"]
            await in_thread(step, task_id, "success")
            found = [event["type"] for _, event in await socket.events(2)]
            assert found == ["task.started", "task.succeeded"]

    run(scenario)


def test_the_socket_of_one_task_ends_with_the_task(server: Web) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    sequence()
    token = make_key(acme)
    path = f"/ws/v1/tasks/{task_id}"

    async def scenario() -> None:
        async with opened(server, token, path=path) as socket:
            assert (await socket.next("ack"))["id"] == 0
            [(_, snapshot)] = await socket.events(1)
            assert snapshot["type"] == "task.snapshot"
            assert (await socket.ask("subscribe", id=1))["code"] == "message_not_understood"
            assert (await socket.ask("ping"))["op"] == "pong"
            await in_thread(step, task_id, "success")
            found = [event["type"] for _, event in await socket.events(2)]
            assert found == ["task.started", "task.succeeded"]
            code, said, last = await socket.closing()
            assert (code, said) == (1000, {"code": "finished", "after": "3"})
            assert last["subscriptions"] == [{"id": 0, "after": "3"}]
        async with opened(server, token, path=f"{path}?after=1") as socket:
            await socket.next("ack")
            found = [event["type"] for _, event in await socket.events(2)]
            assert found == ["task.started", "task.succeeded"]
            assert (await socket.closing())[0] == 1000
        async with opened(server, token, path=f"{path}?after=3") as socket:
            assert (await socket.closing())[0] == 1000
        async with opened(server, token, path=path) as socket:
            await socket.next("ack")
            assert [event["type"] for _, event in await socket.events(1)] == ["task.snapshot"]
            assert (await socket.closing())[0] == 1000

    run(scenario)


MISTAKES: list[tuple[Any, str]] = [
    ({"op": "subscribe", "id": 1, "tasks": [str(uuid.uuid4())]}, "task_not_found"),
    ({"op": "subscribe", "id": 1, "types": ["task.none"]}, "validation_failed"),
    ({"op": "unsubscribe", "id": 9}, "validation_failed"),
    ({"op": "subscribe", "id": 1, "after": "x"}, "message_not_understood"),
    ({"op": "subscribe"}, "message_not_understood"),
    ({"op": "subscribe", "id": True}, "message_not_understood"),
    ({"op": "subscribe", "id": 1, "tasks": ["../"]}, "message_not_understood"),
    ({"op": "subscribe", "id": 1, "more": 1}, "message_not_understood"),
    ({"op": "shout"}, "message_not_understood"),
    ([], "message_not_understood"),
]


def test_what_cannot_be_done_is_answered_with_an_error_and_the_socket_stays(
    server: Web,
) -> None:
    token = make_key()

    async def scenario() -> None:
        async with opened(server, token) as socket:
            for sent, code in MISTAKES:
                await socket.connection.send(orjson.dumps(sent).decode())
                assert (await socket.next("error"))["code"] == code, sent
            await socket.subscribe(1)
            assert (await socket.ask("subscribe", id=1))["code"] == "validation_failed"
            assert (await socket.ask("ping"))["op"] == "pong"

    run(scenario)


def test_a_tenant_cannot_subscribe_to_another_tenants_task(server: Web) -> None:
    theirs = make_task(make_tenant("other"))
    token = make_key(make_tenant("acme"))
    sequence()

    async def scenario() -> None:
        async with opened(server, token) as socket:
            refused = await socket.ask("subscribe", id=1, tasks=[str(theirs)])
            unknown = await socket.ask("subscribe", id=1, tasks=[str(uuid.uuid4())])
            assert refused == unknown
            await socket.subscribe(2)
            await in_thread(step, theirs, "success")
            assert (await socket.ask("ping"))["op"] == "pong"
        async with opened(server, token, path=f"/ws/v1/tasks/{theirs}") as socket:
            assert (await socket.closing())[:2] == (4403, {"code": "task_not_found"})

    run(scenario)


async def hold(stack: AsyncExitStack, server: Web, token: str) -> list[Socket]:
    return [await stack.enter_async_context(opened(server, token)) for _ in range(5)]


async def is_refused(server: Web, token: str) -> bool:
    async with opened(server, token) as socket:
        try:
            return bool((await socket.ask("ping"))["op"] != "pong")
        except ConnectionClosed:
            assert socket.connection.close_code == 4429
            return True


def test_a_client_that_leaves_makes_room_within_a_second(server: Web) -> None:
    acme = make_tenant("acme")
    make_task(acme)
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            held = await hold(stack, server, token)
            for socket in held:
                for name in range(4):
                    await socket.subscribe(name)
                assert (await socket.ask("subscribe", id=9))["code"] == "rate_limited"
            assert await is_refused(server, token)
            for socket in held:
                socket.connection.transport.abort()
            async with asyncio.timeout(1.0):
                while await is_refused(server, token):
                    await asyncio.sleep(0.02)

    run(scenario)
    wait_for(lambda: feed_connections() == 0, seconds=15)


def test_streams_and_sockets_of_a_key_are_counted_together(server: Web) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        url = f"{server.url}/api/v1/tasks/{task_id}/stream"
        async with AsyncExitStack() as stack, httpx.AsyncClient() as client:
            await hold(stack, server, token)
            answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 429

    run(scenario)


def test_oversized_binary_and_endless_nonsense_end_the_socket(server: Web) -> None:
    token = make_key()

    async def scenario() -> None:
        async with opened(server, token) as socket:
            await socket.connection.send("x" * 65_537)
            code, said, _ = await socket.closing()
            assert (code, said["code"]) == (4400, "message_too_large")
        async with opened(server, token) as socket:
            await socket.connection.send("x" * 300_000)
            assert (await socket.closing())[0] == 1009
        async with opened(server, token) as socket:
            await socket.connection.send(b"{}")
            code, said, _ = await socket.closing()
            assert (code, said["code"]) == (4400, "binary_message")
        async with opened(server, token) as socket:
            for _ in range(10):
                await socket.connection.send("[" * 5000)
            assert [(await socket.next("error"))["code"] for _ in range(10)] == [
                "message_not_understood"
            ] * 10
            assert (await socket.closing())[0] == 4400

    run(scenario)


def test_a_client_that_sends_too_much_is_sent_away(server: Web) -> None:
    token = make_key()

    async def scenario() -> None:
        async with opened(server, token) as socket:
            for _ in range(100):
                await socket.send("ping")
            code, said, last = await socket.closing()
            assert (code, said) == (4429, {"code": "too_many_messages"})
            assert last["subscriptions"] == []

    run(scenario)


def test_other_addresses_are_no_sockets(server: Web) -> None:
    token = make_key()

    async def scenario() -> None:
        for path in ("/ws/v1/none", "/", "/api/v1/tasks", "/ws/v1/tasks/"):
            with pytest.raises(InvalidStatus, match="404"):
                async with opened(server, token, path=path):
                    pass

    run(scenario)
