"""Servers for every test: real ones, started on first use in the run's directory.

`TASKMILL_TEST_POSTGRES` names the directory of other PostgreSQL programs
(`/usr/lib/postgresql/15/bin`) to run the same tests on; the default is the embedded version 18.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environment import RUN_DIRECTORY
from tests.mosquitto import mosquitto  # noqa: F401 - a fixture
from tests.rabbitmq import rabbitmq  # noqa: F401 - a fixture
from tests.smtp import mail_server  # noqa: F401 - a fixture

logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A running PostgreSQL with an empty `taskmill` database."""
    from tasks_app.management.servers import Postgres

    binaries = os.environ.get("TASKMILL_TEST_POSTGRES")
    server = Postgres(
        RUN_DIRECTORY / "postgres",
        RUN_DIRECTORY / "run",
        log=RUN_DIRECTORY / "postgres.log",
        binaries=Path(binaries) if binaries else None,
    )
    server.start(options=["fsync=off", "full_page_writes=off", "max_connections=200"])
    server.create_database("taskmill")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey() -> Iterator[Any]:
    """A running Valkey on the socket that the settings name."""
    from tasks_app.management.servers import Valkey

    server = Valkey(
        RUN_DIRECTORY / "valkey",
        RUN_DIRECTORY / "run" / "valkey.sock",
        log=RUN_DIRECTORY / "valkey.log",
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: Any) -> None:
    """Start PostgreSQL before pytest-django creates the test database."""
