"""A platform that is busy, and one whose database is away."""

from __future__ import annotations

from typing import Any

import pytest

from taskmill_client import Client, ServerUnavailable, TooManyRequests
from tests.factories import make_key, make_tenant
from tests.web import web

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_rate_limit_is_waited_for(valkey: Any) -> None:
    token = make_key(make_tenant("hasty"))
    with web(TASKMILL_RATE_LIMIT="4/second") as server, Client(server.url, token) as client:
        for _ in range(12):
            client.request("POST", "/watch-tokens", json={"tag": "x"})
    with web(TASKMILL_RATE_LIMIT="4/minute") as server:
        refused = hurry(Client(server.url, token, retries=0))
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.retry_after is not None
    assert 0 < refused.retry_after <= 60


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
    with web(TASKMILL_RATE_LIMIT="2/hour") as server:
        refused = hurry(Client(server.url, token))
    assert refused.retry_after is not None
    assert refused.retry_after > 60


def test_a_database_that_is_away_is_waited_for_and_then_told(valkey: Any) -> None:
    token = make_key(make_tenant("patient"))
    nowhere = "postgresql://taskmill@127.0.0.1:1/taskmill"
    with (
        web(DATABASE_URL=nowhere) as server,
        Client(server.url, token, retries=1) as client,
    ):
        with pytest.raises(ServerUnavailable) as caught:
            client.tasks.submit("demo.echo")
        assert client.health()["status"] != "ok"
    assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
    assert caught.value.retry_after is not None
