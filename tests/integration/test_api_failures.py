"""An address whose tokens keep failing has to wait; keys in use are not shut out with it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tasks_app.api import failures as counting
from tasks_app.api.failures import FAILURES_MOST, FailureCounter
from tests.factories import make_key

pytestmark = pytest.mark.django_db
UNKNOWN = "tm_live_aaaaaaaaaaaa_" + "a" * 32


def ask(token: str, address: str = "192.0.2.7", path: str = "/api/v1/workers") -> Any:
    header = {"Authorization": f"Bearer {token}"}
    return Client().get(path, headers=header, REMOTE_ADDR=address)


def fail_too_often(address: str = "192.0.2.7") -> None:
    assert {ask(UNKNOWN, address).status_code for _ in range(FAILURES_MOST)} == {401}


@pytest.mark.parametrize("path", ["/api/v1/workers", "/api/schema"])
def test_an_address_that_fails_too_often_is_answered_429(path: str) -> None:
    fail_too_often()
    answer = ask(UNKNOWN, path=path)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert ask(UNKNOWN, "192.0.2.8", path).status_code == 401


def test_a_flood_of_bad_tokens_does_not_reach_the_database(
    django_assert_num_queries: Any,
) -> None:
    fail_too_often()
    with django_assert_num_queries(0):
        assert ask(UNKNOWN).status_code == 429


def test_a_key_that_has_worked_here_passes_from_the_same_address() -> None:
    used, fresh = make_key(), make_key()
    assert ask(used).status_code == 200
    fail_too_often()
    assert ask(used).status_code == 200
    assert ask(fresh).status_code == 429


def test_the_address_may_try_again_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_too_often()
    now = counting.monotonic()
    monkeypatch.setattr(counting, "monotonic", lambda: now + counting.WINDOW_SECONDS)
    assert ask(UNKNOWN).status_code == 401
    assert ask(make_key()).status_code == 200


def test_requests_without_a_token_are_not_counted() -> None:
    for _ in range(FAILURES_MOST + 1):
        assert Client().get("/api/v1/workers").status_code == 401


def test_the_addresses_of_one_ipv6_network_are_counted_together() -> None:
    counter = FailureCounter()
    for number in range(FAILURES_MOST):
        counter.count(f"2001:db8:0:1::{number:x}")
    assert counter.seconds_to_wait("2001:db8:0:1:ffff::1") > 0
    assert counter.seconds_to_wait("2001:db8:0:2::1") == 0


def test_the_memory_of_the_counter_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "ADDRESSES_MOST", 2)
    counter = FailureCounter()
    for _ in range(FAILURES_MOST):
        for address in ("a", "b"):
            counter.count(address)
    counter.count("c")
    waits = [counter.seconds_to_wait(address) > 0 for address in ("a", "b", "c")]
    assert waits == [False, True, False]
