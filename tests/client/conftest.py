"""A whole installation for the client's tests; one for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskmill_client import Client
from tests.acceptance.installations import Installation
from tests.client.proxies import Proxy


@pytest.fixture(scope="session")
def installation() -> Iterator[Installation]:
    """A platform with the handlers of tests."""
    made = Installation(
        TASKMILL_HANDLER_MODULES="tests.handlers",
        TASKMILL_RATE_LIMIT="",
        TASKMILL_WEBHOOK_ALLOW="127.0.0.0/8",
    )
    try:
        made.start()
        yield made
    finally:
        made.end()
        made.remove()


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    """A client of it."""
    with Client(installation.url, installation.credentials()["token"]) as made:
        yield made


@pytest.fixture
def proxy(installation: Installation) -> Iterator[Proxy]:
    """What stands between a client and the platform, and can be made to fail."""
    with Proxy(installation.port) as made:
        yield made


@pytest.fixture
def through(installation: Installation, proxy: Proxy) -> Iterator[Client]:
    """A client that reaches the platform through the proxy."""
    with Client(proxy.url, installation.credentials()["token"]) as made:
        yield made
