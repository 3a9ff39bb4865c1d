"""The hub's protocol, frame by frame, as no stock client would send it."""

from __future__ import annotations

import contextlib
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tasks_app.services.watch import Watch, make_watch_token
from tests.attempts import succeed_one
from tests.factories import make_key, make_task, make_tenant, task_column
from tests.integration.test_signalr_client import finish, sequence
from tests.processes import wait_for
from tests.web import Web, web

pytestmark = pytest.mark.django_db(transaction=True)

HELLO = '{"protocol":"json","version":1}\x1e'
PAGE = "https://app.example.org"
WRONG_TOKEN = "tm_live_00000000_" + "0" * 32


@pytest.fixture(scope="module")
def server(django_db_setup: None, valkey: Any) -> Iterator[Web]:
    with web(
        TASKMILL_ALLOWED_ORIGINS=PAGE,
        TASKMILL_SIGNALR_KEEPALIVE_SECONDS="0.3",
        TASKMILL_SIGNALR_CLIENT_TIMEOUT_SECONDS="3",
        TASKMILL_SIGNALR_MAX_TASKS="3",
        TASKMILL_MAX_STREAMS_PER_KEY="2",
    ) as found:
        yield found


@pytest.fixture
def token() -> str:
    return make_key(make_tenant("acme"))


@contextlib.contextmanager
def hub(
    server: Web, token: str, *, hello: str = HELLO, **options: Any
) -> Iterator[ClientConnection]:
    url = f"ws{server.url.removeprefix('http')}/hubs/notifications?id=x&access_token={token}"
    with connect(url, proxy=None, close_timeout=5, **options) as opened:
        if hello:
            opened.send(hello)
            assert opened.recv(timeout=10) == "{}\x1e"
        yield opened


def messages(opened: ClientConnection) -> Iterator[dict[str, Any]]:
    """What the hub sends, without pings, until it closes."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            for record in str(opened.recv(timeout=10)).split("\x1e")[:-1]:
                message = json.loads(record)
                if message != {"type": 6}:
                    yield message


def call(number: int, method: str, *arguments: Any, **fields: Any) -> str:
    message = {"type": 1, "invocationId": str(number), "target": method, "arguments": arguments}
    return json.dumps({**message, **fields}) + "\x1e"


@pytest.mark.parametrize(
    ("hello", "error"),
    [
        ('{"protocol":"messagepack","version":1}\x1e', "The protocol 'messagepack' is not supp"),
        ('{"protocol":"json","version":2}\x1e', "The server does not support version 2"),
        ('{"type":6}\x1e', "the handshake names no protocol"),
        ("[]\x1e", "a message is not a JSON object"),
        ("hello\x1e", "a message is not JSON"),
        ("x" * 65_537, "larger than 65536 bytes"),
    ],
)
def test_a_wrong_handshake_is_answered_and_closed(
    server: Web, token: str, hello: str, error: str
) -> None:
    with hub(server, token, hello="") as opened:
        opened.send(hello)
        assert error in json.loads(str(opened.recv(timeout=10)).rstrip("\x1e"))["error"]
        with pytest.raises(ConnectionClosed):
            opened.recv(timeout=10)


def test_messages_may_be_split_joined_and_binary(server: Web, token: str) -> None:
    task_id = str(make_task(make_tenant("acme"), state="success"))
    with hub(server, token, hello="") as opened:
        first = HELLO + call(1, "SubscribeToTask", task_id)
        opened.send(first[:7])
        opened.send(first[7:60])
        opened.send(first[60:] + call(2, "subscribetotask", task_id) + call(3, "x")[:20])
        opened.send([call(3, "x")[20:25], call(3, "x")[25:]])
        opened.send(call(4, "UnsubscribeFromTask", task_id).encode())
        assert opened.recv(timeout=10) == "{}\x1e"
        found = []
        for message in messages(opened):
            found.append(message)
            if message.get("invocationId") == "4":
                break
    done = {
        "type": 1,
        "target": "TaskCompleted",
        "arguments": [{"taskId": task_id, "result": {"ok": True}}],
    }
    assert [one for one in found if one["type"] == 3] == [
        {"type": 3, "invocationId": "1", "result": None},
        {"type": 3, "invocationId": "2", "result": None},
        {"type": 3, "invocationId": "3", "error": "bad_request: there is no method x"},
        {"type": 3, "invocationId": "4", "result": None},
    ]
    assert found.count(done) >= 1
    assert found[0]["type"] == 3


def test_what_cannot_be_done_is_refused_and_the_connection_lives_on(
    server: Web, token: str
) -> None:
    task_id = str(make_task(make_tenant("acme")))
    refused = {
        call(1, "SubscribeToTask"): "takes one argument",
        call(2, "SubscribeToTask", 5): "takes one argument",
        call(3, "SubscribeToTask", task_id, task_id): "takes one argument",
        call(4, "SubscribeToTask", "../etc"): "task_not_found",
        call(5, "SubscribeToTask", str(uuid.uuid4())): "task_not_found",
        call(6, "SubscribeToTask", task_id, type=4): "no streams",
        call(7, "SubscribeToTask", task_id, streamIds=["1"]): "no streams",
    }
    with hub(server, token) as opened:
        answers = messages(opened)
        for sent, error in refused.items():
            opened.send(sent)
            answer = next(answers)
            assert answer["invocationId"] == json.loads(sent[:-1])["invocationId"]
            assert error in answer["error"], sent
        for ignored in ({"type": 2}, {"type": 3}, {"type": 5}, {"type": 6}, {"type": 99}):
            opened.send(json.dumps({**ignored, "invocationId": "7"}) + "\x1e")
        quiet = {"type": 1, "target": "SubscribeToTask", "arguments": [str(uuid.uuid4())]}
        opened.send(json.dumps(quiet) + "\x1e" + call(8, "SubscribeToTask", task_id))
        assert next(answers) == {"type": 3, "invocationId": "8", "result": None}
        assert next(answers)["target"] == "TaskProgress"


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ("no json\x1e", "not JSON"),
        ("1\x1e", "not a JSON object"),
        ("{}\x1e", "no type"),
        ('{"type":true}\x1e', "no type"),
        ('{"type":1,"target":1,"arguments":[]}\x1e', "no target"),
        ('{"type":1,"target":"x"}\x1e', "no target"),
        ('{"type":1,"target":"x","arguments":[],"invocationId":7}\x1e', "id is no short text"),
        ('{"type":4,"target":"x","arguments":[]}\x1e', "id is no short text"),
        ("[" * 2000 + "\x1e", "not JSON"),
        (b"\xff\xfe\x1e", "not JSON"),
        ("y" * 65_537, "larger than 65536 bytes"),
        ('{"type":6}\x1e' * 601, "more than 600 messages a minute"),
    ],
)
def test_what_is_not_of_the_protocol_closes_for_good(
    server: Web, token: str, sent: Any, error: str
) -> None:
    with hub(server, token) as opened:
        opened.send(sent)
        (closing,) = messages(opened)
        assert error in closing.pop("error")
        assert closing == {"type": 7}


def test_a_long_message_in_small_pieces_is_refused_too(server: Web, token: str) -> None:
    with hub(server, token) as opened:
        for _ in range(3):
            opened.send("z" * 30_000)
        (closing,) = messages(opened)
        assert "larger than 65536 bytes" in closing["error"]


def test_the_hub_pings_and_cuts_off_who_is_silent_but_not_who_pings(
    server: Web, token: str
) -> None:
    with hub(server, token) as talker, hub(server, token) as mute:
        pings = 0
        end = None
        while end is None:
            talker.send('{"type":6}\x1e')
            record = str(mute.recv(timeout=5))
            pings += record == '{"type":6}\x1e'
            end = json.loads(record[:-1]) if record[:-1] != '{"type":6}' else None
        assert pings >= 5
        assert end == {"type": 7, "error": "nothing was heard for 3 s", "allowReconnect": True}
        talker.send(call(1, "UnsubscribeFromTask", str(uuid.uuid4())))
        assert next(messages(talker))["invocationId"] == "1"


def test_a_client_that_closes_is_closed_and_leaves_nothing_behind(server: Web, token: str) -> None:
    task_id = str(make_task(make_tenant("acme")))
    for _ in range(6):  # three times the connections that a key may have
        with hub(server, token) as opened:
            opened.send(call(1, "SubscribeToTask", task_id) + '{"type":7}\x1e')
            assert [one["type"] for one in messages(opened)][-1] == 7

    def hub_connections() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name IN ('taskmill-feed', 'taskmill-replay')"
            )
            return int(cursor.fetchone()[0])

    wait_for(lambda: hub_connections() == 0, reason="the feed is still followed")


def is_end(message: dict[str, Any]) -> bool:
    return message.get("target") == "TaskCompleted" and message["arguments"][0]["result"] != "old"


def test_a_connection_watches_a_bounded_number_of_unfinished_tasks(server: Web, token: str) -> None:
    acme = make_tenant("acme")
    done = [make_task(acme, state="success") for _ in range(4)]
    live = [make_task(acme, state="running") for _ in range(4)]
    sequence()
    with hub(server, token) as opened:
        answers = (one for one in messages(opened) if one["type"] == 3)
        for number, task_id in enumerate([*done, *live[:3], live[0]]):
            opened.send(call(number, "SubscribeToTask", str(task_id)))
            assert "error" not in next(answers), number
        opened.send(call(9, "SubscribeToTask", str(live[3])))
        assert "rate_limited: this connection watches 3" in next(answers)["error"]
        finish(live[0], "success")
        [ended] = next(one for one in messages(opened) if is_end(one))["arguments"]
        assert ended["taskId"] == str(live[0])
        opened.send(call(10, "SubscribeToTask", str(live[3])))
        assert next(answers) == {"type": 3, "invocationId": "10", "result": None}


def test_the_doors_are_open_to_tokens_in_force_and_pages_of_the_list_alone(
    server: Web, token: str
) -> None:
    acme = make_tenant("acme")
    no_scope = make_key(acme, scopes=("tasks:submit",))
    expected = {
        (token, None): 101,
        (token, PAGE): 101,
        (token, "null"): 403,
        (token, f"{PAGE}.evil"): 403,
        (token, f"{PAGE}:8443"): 403,
        (token, PAGE.replace("https", "http")): 403,
        (token, PAGE.upper()): 403,
        (token, "https://sub.app.example.org"): 403,
        ("", None): 401,
        (WRONG_TOKEN, None): 401,
        ("tmw_" + "x" * 40, None): 401,
        (no_scope, None): 403,
    }
    found = {}
    for used, origin in expected:
        try:
            with hub(server, used, origin=origin):  # type: ignore[arg-type]
                found[used, origin] = 101
        except InvalidStatus as error:
            is_problem = error.response.headers["Content-Type"] == "application/problem+json"
            found[used, origin] = error.response.status_code if is_problem else 0
    assert found == expected
    assert token not in server.process.output()
    assert "/hubs/notifications" in server.process.output()


def test_a_key_has_a_bounded_number_of_connections(server: Web, token: str) -> None:
    with hub(server, token), hub(server, token):
        with pytest.raises(InvalidStatus) as refused, hub(server, token):
            pass
        assert refused.value.response.status_code == 429
    wait_for(lambda: _opens(server, token))


def test_a_client_that_takes_nothing_is_cut_off_and_what_it_held_is_free(
    server: Web, token: str
) -> None:
    task_id = make_task(make_tenant("acme"), state="running")
    with connection.cursor() as cursor:
        epoch = task_column(task_id, "epoch")
        succeed_one(cursor, task_id, epoch=epoch, result=json.dumps("x" * 900_000))
    asked = call(1, "SubscribeToTask", str(task_id)).encode()
    with connect_raw(server, token) as one, connect_raw(server, token) as two:
        for raw in (one, two):
            for frame in (HELLO.encode(), *[asked] * 50):
                raw.sendall(bytes([0x81, 0x80 | 126]) + len(frame).to_bytes(2) + bytes(4) + frame)
        assert not _opens(server, token)
        wait_for(lambda: _opens(server, token), seconds=30)


@contextlib.contextmanager
def connect_raw(server: Web, token: str) -> Iterator[socket.socket]:
    """A WebSocket of which nothing is read after its opening."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(
            f"GET /hubs/notifications HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Bearer {token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode()
        )
        assert b" 101 " in raw.recv(200)
        yield raw


def test_a_stopping_server_sends_its_clients_on(valkey: Any, token: str) -> None:
    task_id = str(make_task(make_tenant("acme")))
    with web() as server, hub(server, token) as idle, hub(server, token) as watching:
        watching.send(call(1, "SubscribeToTask", task_id))
        seen = messages(watching)
        assert [next(seen)["type"], next(seen)["type"]] == [3, 1]
        server.process.popen.terminate()
        for client in (idle, watching):
            # The server's own 1012 may be faster; a stock client comes back after both.
            last = list(messages(client))
            assert last == [{"type": 7, "allowReconnect": True}] or (
                last == [] and client.protocol.close_code == 1012
            )
        server.process.popen.wait(15)


def _opens(server: Web, token: str) -> bool:
    try:
        with hub(server, token):
            return True
    except InvalidStatus:
        return False


def test_no_socket_is_at_another_address(server: Web, token: str) -> None:
    url = f"ws{server.url.removeprefix('http')}/hubs/others?access_token={token}"
    with pytest.raises(InvalidStatus) as refused, connect(url, proxy=None):
        pass
    assert refused.value.response.status_code == 404
    assert "Traceback" not in server.process.output()


def test_negotiation_names_the_only_transport(server: Web, token: str) -> None:
    acme = make_tenant("acme")
    watch = make_watch_token(
        Watch(tenant_id=acme.id, key_id=token.split("_")[2], task_id=make_task(acme))
    )[0]
    url = f"{server.url}/hubs/notifications/negotiate"
    for used in (token, watch):
        headers = {"Authorization": f"Bearer {used}", "Content-Type": "text/plain;charset=UTF-8"}
        answer = httpx.post(f"{url}?negotiateVersion=1", headers=headers)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found.pop("connectionId") != found.pop("connectionToken")
        assert found == {
            "negotiateVersion": 1,
            "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text"]}],
        }
    old = httpx.post(url, headers={"Authorization": f"Bearer {token}"}).json()
    assert old["negotiateVersion"] == 0
    assert set(old) == {"connectionId", "negotiateVersion", "availableTransports"}
    assert httpx.post(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code in {403, 405}


def test_negotiation_lets_pages_of_the_list_read_it_and_no_others(server: Web, token: str) -> None:
    url = f"{server.url}/hubs/notifications/negotiate?negotiateVersion=1"
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-requested-with,x-signalr-user-agent",
    }
    preflight = httpx.options(url, headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == PAGE
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    allowed = preflight.headers["Access-Control-Allow-Headers"].replace(" ", "").split(",")
    assert {"authorization", "x-requested-with", "x-signalr-user-agent"} <= set(allowed)
    bearer = {"Authorization": f"Bearer {token}"}
    for headers, status in ((bearer, 200), ({}, 401)):
        answer = httpx.post(url, headers={"Origin": PAGE, **headers})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.headers["Vary"]
    for origin in ("https://evil.example.org", "null"):
        for answer in (
            httpx.options(url, headers={**asked, "Origin": origin}),
            httpx.post(url, headers={**bearer, "Origin": origin}),
        ):
            assert answer.status_code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
