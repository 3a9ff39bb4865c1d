"""A platform that is busy, and one whose database is away."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from taskmill_client import Client, ServerUnavailable, TooManyRequests
from tests.client.proxies import Proxy
from tests.factories import make_key, make_tenant
from tests.web import Web, web

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_rate_limit_is_waited_for_as_long_as_the_server_says(valkey: Any) -> None:
    token = make_key(make_tenant("hasty"))
    with (
        web(TASKMILL_RATE_LIMIT="1/second") as server,
        in_front_of(server) as proxy,
        Client(proxy.url, token, retries=1) as client,  # a second refusal in a row is told
    ):
        for _ in range(6):
            client.request("POST", "/watch-tokens", json={"tag": "x"})
        assert len(proxy.heads) > 6


def test_a_rate_limit_that_holds_on_is_told_after_as_many_tries_as_allowed(valkey: Any) -> None:
    token = make_key(make_tenant("bounded"))
    with web(TASKMILL_RATE_LIMIT="4/minute") as server, in_front_of(server) as proxy:
        refused = hurry(Client(proxy.url, token, retries=0))
        assert len(proxy.heads) == 5
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 60


def in_front_of(server: Web) -> Proxy:
    """Give what counts the requests that reach a server."""
    port = urlsplit(server.url).port
    assert port is not None
    return Proxy(port)


def hurry(client: Client) -> TooManyRequests:
    """Ask until it is too often."""
    with client:
        for _ in range(12):
            try:
                client.stats()
            except TooManyRequests as error:
                return error
    raise AssertionError("never too often")


def test_a_limit_of_hours_is_given_up_at_once(valkey: Any) -> None:
    token = make_key(make_tenant("greedy"))
    with web(TASKMILL_RATE_LIMIT="2/hour") as server, in_front_of(server) as proxy:
        refused = hurry(Client(proxy.url, token))
        assert len(proxy.heads) == 3
    assert refused.retry_after is not None
    assert refused.retry_after > 60


def test_a_database_that_is_away_is_waited_for_and_then_told(valkey: Any) -> None:
    token = make_key(make_tenant("patient"))
    nowhere = "postgresql://taskmill@127.0.0.1:1/taskmill"
    with (
        web(DATABASE_URL=nowhere) as server,
        in_front_of(server) as proxy,
        Client(proxy.url, token, retries=1) as client,
    ):
        with pytest.raises(ServerUnavailable) as caught:
            client.tasks.submit("demo.echo")
        assert [head.split()[0] for head in proxy.heads] == ["POST", "POST"]
        assert client.health()["status"] != "ok"
    assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
    assert caught.value.retry_after is not None
