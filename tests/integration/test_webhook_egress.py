"""What is dialled: traps on internal addresses get no connection, however they are named."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from notifications.webhooks.client import WebhookClient
from notifications.webhooks.conf import WebhooksConf
from notifications.webhooks.verdict import Outcome
from tests.receivers import Receiver, Trap, receiver


@pytest.fixture
def traps(settings: Any) -> Iterator[dict[str, Trap]]:
    """Listeners on internal addresses, on ports that are open for all."""
    found = {"127.0.0.1": Trap(), "::1": Trap("::1")}
    ports = tuple(str(trap.port) for trap in found.values())
    settings.TASKMILL_WEBHOOKS = WebhooksConf(schemes=("http", "https"), ports=ports)
    yield found
    for trap in found.values():
        trap.close()


def post(url: str, *, total_seconds: float = 5.0) -> Outcome:
    async def send() -> Outcome:
        client = WebhookClient(total_seconds=total_seconds, concurrency=5)
        try:
            return await client.post(url, {"webhook-id": "x"}, b"{}")
        finally:
            await client.close()

    return asyncio.run(send())


HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "127.0.0.1.",
    "0", "0.0.0.0", "①②⑦.⓪.⓪.①", "localhost", "localhost.", "a.localhost", "[::1]", "[::]",
    "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "[::1%25lo]", "a@127.0.0.1", "example.com@127.0.0.1", "127.0.0.1%00.a.b",
    "127.0.0.1#@example.com", "127.0.0.1\\@example.com", "127.0.0.1 .example.com",
]  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", HOSTS)
def test_no_spelling_of_an_internal_address_is_dialled(
    traps: dict[str, Trap], host: str, scheme: str
) -> None:
    for trap in traps.values():
        outcome = post(f"{scheme}://{host}:{trap.port}/")
        assert (outcome.error, outcome.address) == ("refused", "")
    assert [trap.count() for trap in traps.values()] == [0, 0]


def answering(*answers: list[str]) -> Any:
    """Give a resolver that answers differently each time, the last for ever."""
    turns = iter(answers)
    last: list[list[str]] = [[]]

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        last[0] = next(turns, last[0])
        return [(0, 0, 0, "", (address, port)) for address in last[0]]

    return resolve


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:4700:4700::1111", "127.0.0.1"],
        ["93.184.216.34", "::1"],
        ["fe80::1%lo"],
    ],
)
def test_a_name_with_one_internal_address_is_not_dialled_at_all(
    traps: dict[str, Trap], answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(answers))
    for trap in traps.values():
        outcome = post(f"http://127.0.0.1.nip.io:{trap.port}/")
        assert (outcome.error, outcome.address) == ("refused", "")
        assert "not public" in outcome.detail
    assert [trap.count() for trap in traps.values()] == [0, 0]


def test_the_address_that_was_checked_is_the_one_that_is_dialled(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    trap = Trap()
    allowed = Receiver(host="127.0.0.2", port=trap.port)
    ports = (str(trap.port),)
    settings.TASKMILL_WEBHOOKS = WebhooksConf(
        allow=("127.0.0.2/32",), schemes=("http",), ports=ports
    )
    monkeypatch.setattr(socket, "getaddrinfo", answering(["127.0.0.2"], ["127.0.0.1"]))
    try:
        url = f"http://rebind.example.com:{trap.port}/hook"
        outcome = post(url)
        assert (outcome.status, outcome.address) == (204, "127.0.0.2")
        assert allowed.received[0].headers["host"] == f"rebind.example.com:{trap.port}"
        assert post(url).error == "refused"
        assert trap.count() == 0
    finally:
        allowed.close()
        trap.close()


def test_a_redirect_to_an_internal_address_reaches_nobody(
    traps: dict[str, Trap], settings: Any
) -> None:
    settings.TASKMILL_WEBHOOKS = replace(settings.TASKMILL_WEBHOOKS, allow=("127.0.0.2/32",))
    shop = Receiver(host="127.0.0.2")
    try:
        for status in (301, 302, 303, 307, 308):
            target = f"http://127.0.0.1:{traps['127.0.0.1'].port}/"
            shop.answer(status, Location=target)
            outcome = post(shop.url)
            assert (outcome.status, outcome.problem, outcome.is_success) == (
                status, "redirect", False,
            )  # fmt: skip
    finally:
        shop.close()
    assert [trap.count() for trap in traps.values()] == [0, 0]


def test_a_slow_name_costs_its_own_try_alone(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.TASKMILL_WEBHOOKS = WebhooksConf(allow=("127.0.0.0/8",))
    gate = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: gate.wait(10) and [])

    async def both(url: str) -> list[Outcome]:
        client = WebhookClient(total_seconds=0.5, concurrency=50)
        slow = [client.post("https://slow.example.com/", {}, b"{}") for _ in range(20)]
        found = await asyncio.gather(*slow, client.post(url, {}, b"{}"))
        await client.close()
        return list(found)

    with receiver() as shop:
        *slow, quick = asyncio.run(both(shop.url))
    gate.set()
    assert {one.error for one in slow} == {"timeout"}
    assert quick.status == 204
    assert quick.duration_ms < 450


def test_a_name_that_is_not_known_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert post("https://nowhere.example.com/").error == "name"


def test_nobody_listening_is_a_failed_connection(settings: Any) -> None:
    settings.TASKMILL_WEBHOOKS = WebhooksConf(allow=("127.0.0.0/8",))
    trap = Trap()
    trap.close()
    assert post(f"http://127.0.0.1:{trap.port}/").error == "connect"
