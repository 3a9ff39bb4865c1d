"""Who may open a WebSocket, how it ends, and that it does not matter which process serves it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket as sockets
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed

from tasks_app import transitions
from tasks_app.progress import save_progress
from tasks_app.services.keys import revoke_api_key
from tests.acceptance.test_documents import blocks
from tests.environment import RUN_DIRECTORY
from tests.factories import drive, make_key, make_task, make_tenant
from tests.integration.test_websocket import in_thread, run, sequence, step
from tests.processes import ROOT, Process, wait_for
from tests.sockets import Socket, opened, refusal
from tests.web import Web, web

pytestmark = pytest.mark.django_db(transaction=True)

APP = "https://app.example.com"


@pytest.fixture(scope="module")
def servers(valkey: Any, django_db_setup: None) -> Iterator[tuple[Web, Web]]:
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(web(TASKMILL_ALLOWED_ORIGINS=APP))
        yield one, stack.enter_context(web())


@pytest.fixture(scope="module")
def server(servers: tuple[Web, Web]) -> Web:
    return servers[0]


@pytest.fixture(scope="module")
def lonely(django_db_setup: None) -> Iterator[Web]:
    """A web process without Redis, whose sockets are closed after three seconds."""
    nowhere = f"unix://{RUN_DIRECTORY}/no-redis.sock"
    with web(REDIS_URL=nowhere, TASKMILL_STREAM_MOST_SECONDS="3") as found:
        yield found


def post(server: Web, path: str, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(f"{server.url}/api/v1{path}", headers=headers, timeout=20)


def ticket_of(server: Web, token: str) -> str:
    answer = post(server, "/ws-tickets", token)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def test_only_readers_get_in_and_the_others_are_told_why(server: Web) -> None:
    acme = make_tenant("acme")
    reader, submitter = make_key(acme), make_key(acme, ["tasks:submit"])
    revoked = make_key(acme)
    revoke_api_key(key_id=revoked.split("_")[2])

    async def scenario() -> None:
        nobody = (4401, "not_authenticated")
        for token in ("", "tm_live_x", revoked):
            assert await refusal(server, token) == nobody
        for query in ("ticket=tmt_x", "token=tmw_x:y", f"token={reader}", "ticket="):
            assert await refusal(server, path=f"/ws/v1/events?{query}") == nobody
        assert await refusal(server, submitter) == (4403, "scope_missing")
        async with opened(server, reader) as socket:
            assert (await socket.ask("ping"))["op"] == "pong"

    run(scenario)


def test_a_page_of_another_origin_is_refused(server: Web) -> None:
    token = make_key()
    host = server.url.removeprefix("http://")
    port = int(host.split(":")[1])

    async def scenario() -> None:
        for origin in (None, server.url, APP):
            async with opened(server, token, origin=origin) as socket:
                assert (await socket.ask("ping"))["op"] == "pong"
        strangers = (
            "null", f"https://{host}", f"http://{host}.evil.test", f"{server.url}/",
            f"http://127.0.0.1:{port + 1}", "http://127.0.0.1", f"HTTP://{host}",
            f"http://localhost:{port}", "https://app.example.com.evil.test",
            "https://evil.app.example.com", "https://APP.example.com", "https://app.example.com:443",
            "http://app.example.com",
        )  # fmt: skip
        for origin in strangers:
            assert await refusal(server, token, origin=origin) == (4403, "forbidden"), origin

    run(scenario)


def test_a_ticket_opens_one_socket_in_whichever_process_asks_first(
    servers: tuple[Web, Web],
) -> None:
    acme = make_tenant("acme")
    token = make_key(acme)
    task_id = make_task(acme)
    sequence()

    async def enters(server: Web, path: str) -> bool:
        async with opened(server, path=path) as socket:
            with contextlib.suppress(ConnectionClosed):
                return bool((await socket.subscribe(1, tasks=[str(task_id)]))["op"] == "ack")
            assert socket.connection.close_code == 4401
            return False

    async def scenario() -> None:
        for number in range(10):
            ticket = await in_thread(ticket_of, servers[number % 2], token)
            path = f"/ws/v1/events?ticket={ticket}"
            outcomes = await asyncio.gather(*(enters(servers[n % 2], path) for n in range(4)))
            assert sorted(outcomes) == [False, False, False, True]
            assert not await enters(servers[0], path)

    run(scenario)


def test_a_ticket_expires_and_dies_with_its_key(server: Web) -> None:
    import redis
    from django.conf import settings

    token = make_key()
    answer = post(server, "/ws-tickets", token)
    ticket = answer.json()["ticket"]
    assert answer.json()["ws_url"] == (
        f"{server.url.replace('http', 'ws')}/ws/v1/events?ticket={ticket}"
    )
    with redis.Redis.from_url(settings.REDIS_URL) as store:
        name = f"taskmill-ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"
        assert 0 < store.ttl(name) <= 30
        assert store.get(name) == token.split("_")[2].encode()
    revoke_api_key(key_id=token.split("_")[2])

    async def scenario() -> None:
        path = f"/ws/v1/events?ticket={ticket}"
        assert await refusal(server, path=path) == (4401, "not_authenticated")

    run(scenario)
    assert post(server, "/ws-tickets", make_key(scopes=["tasks:submit"])).status_code == 403


def watch_tag(server: Web, token: str, tag: str) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{server.url}/api/v1/watch-tokens"
    return httpx.post(url, headers=headers, json={"tag": tag}).json()


def path_of(server: Web, watch: Any) -> str:
    path: str = watch["ws_url"].removeprefix(server.url.replace("http", "ws"))
    return path


def test_a_watch_token_shows_its_task_and_nothing_else(server: Web) -> None:
    acme = make_tenant("acme")
    mine, other, vip = make_task(acme), make_task(acme), make_task(acme, tags=["vip"])
    sequence()
    token = make_key(acme)
    watch = post(server, f"/tasks/{mine}/watch-tokens", token).json()
    tagged = watch_tag(server, token, "vip")
    given = path_of(server, watch)

    def finish_all() -> None:
        for task_id in (other, vip, mine):
            drive(task_id, "success")
        sequence()

    async def scenario() -> None:
        assert given.startswith("/ws/v1/tasks/")
        async with (
            opened(server, path=given) as one,
            opened(server, path=f"/ws/v1/events?token={watch['token']}") as many,
            opened(server, path=path_of(server, tagged)) as tag,
        ):
            assert (await one.next("ack"))["id"] == 0
            assert [event["subject"] for _, event in await one.events(1)] == [str(mine)]
            refused = await many.ask("subscribe", id=1, tasks=[str(other)])
            assert refused["code"] == "task_not_found"
            await many.subscribe(2)
            await many.events(1)
            await tag.subscribe(3)
            await in_thread(finish_all)
            for socket, wanted in ((one, mine), (many, mine), (tag, vip)):
                assert [event["subject"] for _, event in await socket.events(2)] == [
                    str(wanted)
                ] * 2
        for path in (
            f"/ws/v1/tasks/{other}?token={watch['token']}",
            f"/ws/v1/tasks/{vip}?token={tagged['token']}",
        ):
            async with opened(server, path=path) as socket:
                assert (await socket.closing())[:2] == (4403, {"code": "task_not_found"})

        await in_thread(lambda: revoke_api_key(key_id=token.split("_")[2]))
        assert await refusal(server, path=given) == (4401, "not_authenticated")

    run(scenario)
    output = server.process.output()
    assert "/ws/v1/events" in output
    for secret in (watch["token"], tagged["token"], "tmt_", "token="):
        assert secret not in output


def test_two_processes_show_the_same(servers: tuple[Web, Web]) -> None:
    acme = make_tenant("acme")
    task_ids = [make_task(acme) for _ in range(3)]
    sequence()
    token = make_key(acme)

    def finish_all() -> None:
        for task_id in task_ids:
            step(task_id, "success")

    async def scenario() -> None:
        async with opened(servers[0], token) as one, opened(servers[1], token) as two:
            for socket in (one, two):
                await socket.subscribe()
            await in_thread(finish_all)
            seen = await task_events(one, 6)
            assert seen == await task_events(two, 6)
            assert [event["type"] for _, event in seen] == ["task.started", "task.succeeded"] * 3

    run(scenario)


async def task_events(socket: Socket, count: int) -> list[Any]:
    """Give so many events of tasks; a process may yet learn that a test before emptied the feed."""
    found: list[Any] = []
    while len(found) < count:
        found += [one for one in await socket.events(1) if one[1]["type"] != "stream.reset"]
    return found


def test_a_revoked_key_loses_its_sockets_in_every_process_at_once(
    servers: tuple[Web, Web],
) -> None:
    acme = make_tenant("acme")
    make_task(acme)
    sequence()
    token, other = make_key(acme), make_key(acme)

    async def scenario() -> None:
        async with (
            opened(servers[0], token) as one,
            opened(servers[1], token) as two,
            opened(servers[1], other) as three,
        ):
            await one.subscribe()
            await three.subscribe()
            assert (await two.ask("ping"))["op"] == "pong"
            await in_thread(lambda: revoke_api_key(key_id=token.split("_")[2]))
            async with asyncio.timeout(5.0):
                code, said, _ = await one.closing()
                assert (code, said) == (4401, {"code": "key_not_in_force", "after": "1"})
                assert (await two.closing())[:2] == (4401, {"code": "key_not_in_force"})
            assert (await three.ask("ping"))["op"] == "pong"
            assert await refusal(servers[1], token) == (4401, "not_authenticated")

    run(scenario)


def test_processes_that_heard_of_revocations_stop_quietly(servers: tuple[Web, Web]) -> None:
    """The last test of the second server."""
    token = make_key()

    async def scenario() -> None:
        async with opened(servers[1], token) as socket:
            assert (await socket.ask("ping"))["op"] == "pong"
            servers[1].process.popen.terminate()
            assert (await socket.closing())[0] == 1013

    run(scenario)
    servers[1].process.popen.wait(5)
    assert "Traceback" not in servers[1].process.output()


def small_socket(server: Web) -> sockets.socket:
    """A connection that takes little before the other side has to wait."""
    one = sockets.socket()
    one.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    one.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_MAXSEG, 536)
    one.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    one.setblocking(False)
    return one


def much_progress(task_id: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch FROM taskmill_task WHERE id = %s", [task_id])
        epoch = cursor.fetchone()[0]
        for number in range(1, 601):
            detail = orjson.dumps({"text": "x" * 4000}).decode()
            save_progress(
                cursor, task_id, epoch=epoch, percent=number / 6, message="", detail=detail
            )
    sequence()


def many_tasks(tenant_id: int) -> None:
    def task(**more: Any) -> transitions.NewTask:
        return transitions.NewTask(
            tenant_id=tenant_id,
            type="tests.echo",
            queue="default",
            payload={},
            max_retry=0,
            process_timeout=60,
            **more,
        )

    with connection.cursor() as cursor:
        for _ in range(7):
            transitions.insert_tasks(cursor, [task() for _ in range(1000)])
        transitions.insert_tasks(cursor, [task(tags=["last"])])
    sequence()


def test_a_slow_client_gets_the_newest_progress_and_is_then_closed_with_its_cursor(
    server: Web,
) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme, tags=["last"])
    drive(task_id, "running")
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        slow_options = {"sock": small_socket(server), "max_queue": 1, "is_judged": False}
        async with (
            opened(server, token) as fast,
            opened(server, token, **slow_options) as slow,
        ):
            await slow.subscribe("s")
            await fast.subscribe(1, tags=["last"])
            await in_thread(much_progress, task_id)
            assert (await percents(fast))[-1] == 100
            seen = await percents(slow)
            assert seen[-1] == 100
            assert seen == sorted(seen)
            assert len(seen) < 600
            await in_thread(many_tasks, acme.pk)
            [(_, last)] = await fast.events(1)
            places, code, said = await until_closed(slow)
            assert (code, said) == (4408, {"code": "slow_subscriber", "after": str(places[-1])})
        async with opened(server, token, is_judged=False) as again:
            await again.subscribe(1, after=said["after"])
            rest = await again.events(last["sequence"] - places[-1])
            places += [event["sequence"] for _, event in rest]
        assert places == list(range(places[0], last["sequence"] + 1))

    run(scenario)


async def percents(socket: Socket) -> list[float]:
    found = [0.0]
    while found[-1] < 100:
        [(_, event)] = await socket.events(1)
        found.append(event["data"]["progress"])
    return found


async def until_closed(socket: Socket) -> tuple[list[int], int, Any]:
    places = []
    while (message := await socket.next())["op"] == "event":
        places.append(message["event"]["sequence"])
    assert message["op"] == "closing"
    assert message["subscriptions"] == [{"id": "s", "after": str(places[-1])}]
    code, said, _ = await socket.closing()
    return places, code, said


def test_sockets_work_without_redis_and_tickets_say_when_they_cannot(lonely: Web) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme)
    sequence()
    token = make_key(acme)
    answer = post(lonely, "/ws-tickets", token)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")

    async def scenario() -> None:
        path = "/ws/v1/events?ticket=tmt_x"
        assert await refusal(lonely, path=path) == (1013, "unavailable")
        async with opened(lonely, token) as socket:
            await socket.subscribe()
            await in_thread(step, task_id, "success")
            assert len(await socket.events(2)) == 2

    run(scenario)


def test_a_socket_is_closed_after_its_time_with_the_cursor(lonely: Web) -> None:
    acme = make_tenant("acme")
    make_task(acme)
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        async with opened(lonely, token) as socket:
            await socket.subscribe()
            code, said, last = await socket.closing()
            assert (code, said) == (1013, {"code": "open_long_enough", "after": "1"})
            assert last["subscriptions"] == [{"id": 1, "after": "1"}]

    run(scenario)


def test_the_documented_client_resumes_after_its_socket_was_closed(lonely: Web) -> None:
    acme = make_tenant("acme")
    task_id = make_task(acme, tags=["vip"])
    sequence()
    [example] = blocks(ROOT / "docs" / "how-to" / "watch-live-with-websocket.md", "python")
    environment = {"TASKMILL_URL": lonely.url, "TASKMILL_TOKEN": make_key(acme)}
    client = Process([sys.executable, "-c", example], name="client", environment=environment)
    try:
        wait_for(lambda: client.output().count("ack 1\n") == 2, reason="no second subscription")
        step(task_id, "success")
        seen = f"task.started {task_id}\ntask.succeeded {task_id}\n"
        wait_for(lambda: seen in client.output(), reason="no events")
        assert client.output().count("task.started") == 1
    finally:
        client.kill()


def test_a_stopping_server_says_where_to_resume_and_does_not_hang(lonely: Web) -> None:
    """The last test of this server."""
    acme = make_tenant("acme")
    make_task(acme)
    sequence()
    token = make_key(acme)

    async def scenario() -> None:
        async with opened(lonely, token) as socket, opened(lonely, token) as idle:
            await socket.subscribe()
            lonely.process.popen.terminate()
            code, said, _ = await socket.closing()
            assert (code, said) == (1013, {"code": "feed_closed", "after": "1"})
            assert (await idle.closing())[:2] == (1013, {"code": "feed_closed"})

    run(scenario)
    lonely.process.popen.wait(3)
    assert "Traceback" not in lonely.process.output()
