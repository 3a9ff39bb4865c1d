"""Guesses at passwords of operators, and at whose address they come from."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client

from tasks_app.api.throttling import request_limiter
from tests.web import web

pytestmark = pytest.mark.django_db
MOST = 10
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def shared_windows(valkey: Any) -> None:
    request_limiter.cache_clear()


@pytest.fixture
def name(django_user_model: type[User]) -> str:
    """An operator nobody has guessed at."""
    found = f"operator-{next(_numbers)}"
    django_user_model.objects.create_superuser(found, password="right-and-long")
    return found


@pytest.fixture
def address() -> str:
    return f"198.51.{next(_numbers)}.7"


def login(name: str, password: str, address: str) -> Any:
    values = {"username": name, "password": password}
    return Client().post("/admin/login/?next=/admin/", values, REMOTE_ADDR=address)


def fail(name: str, address: str, times: int) -> None:
    for _ in range(times):
        assert login(name, "wrong", address).status_code == 200


def test_after_ten_failures_the_right_password_waits_too(name: str, address: str) -> None:
    fail(name, address, MOST)
    answer = login(name, "right-and-long", address)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 300
    assert b"Too many failed logins" in answer.content
    assert "sessionid" not in answer.cookies
    assert login(name.upper(), "wrong", address).status_code == 429


def test_other_addresses_and_other_users_are_not_kept_out(
    name: str, address: str, django_user_model: type[User]
) -> None:
    fail(name, address, MOST)
    assert login(name, "right-and-long", "203.0.113.250").status_code == 302
    other = f"operator-{next(_numbers)}"
    django_user_model.objects.create_superuser(other, password="right-and-long")
    assert login(other, "right-and-long", address).status_code == 302


def test_a_login_that_succeeds_forgets_the_failures_before(name: str, address: str) -> None:
    for _ in range(2):
        fail(name, address, MOST - 1)
        assert login(name, "right-and-long", address).status_code == 302
    fail(name, address, MOST)


def test_one_address_does_not_try_a_password_with_any_number_of_names(address: str) -> None:
    for number in range(100):
        assert login(f"nobody-{number}", "wrong", address).status_code == 200
    assert login("nobody-100", "wrong", address).status_code == 429


def test_any_number_of_addresses_does_not_guess_on_at_one_user(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.console.OF_USER", request_rate("5 per hour"))
    for number in range(5):
        fail(name, f"198.51.100.{number}", 1)
    assert login(name, "right-and-long", "198.51.100.9").status_code == 429


def request_rate(text: str) -> Any:
    import limits

    return limits.parse(text)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("believed", "forged"),
    [("127.0.0.1", "192.0.2.{number}, 203.0.113.9"), ("192.0.2.1", "192.0.2.{number}")],
)
def test_no_header_makes_one_client_many(believed: str, forged: str, valkey: Any) -> None:
    """Through a proxy that appends the address it saw, and without one."""
    with web(FORWARDED_ALLOW_IPS=believed) as server, httpx.Client(base_url=server.url) as client:
        statuses = [
            client.get(
                "/api/v1/tasks",
                headers={
                    "Authorization": "Bearer tm_live_nobody12_aaaaaaaaaaaaaaaaaaaaaaaaaa",
                    "X-Forwarded-For": forged.format(number=number),
                },
            ).status_code
            for number in range(31)
        ]
    assert statuses == [401] * 30 + [429]


def test_each_attempt_counts_once_whenever_it_comes() -> None:
    """Windows of more would be taken by the block, and its rest lost after a second."""
    from config import console

    assert {one.amount // 100 for one in (console.OF_USER, console.FROM_ADDRESS)} == {1}
    assert console.OF_USER_FROM_ADDRESS.amount < 200
