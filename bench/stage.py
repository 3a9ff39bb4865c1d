"""The servers that all systems share: PostgreSQL with everything durable on, RabbitMQ, Valkey.

Everything lives in the temporary directory that `tests.environment` makes for a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import psycopg

from bench.processes import BenchFault
from tasks_app.management.servers import Postgres, Valkey
from tests.environment import RUN_DIRECTORY
from tests.rabbitmq import RabbitMQ

SHOWN_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_connections",
)


class Stage:
    """Servers in a temporary directory that is removed at the end: `with Stage() as stage:`.

    Args:
        options: settings of PostgreSQL as `name=value`.

    Attributes:
        directory: where data, sockets and logs are.
        broker: the RabbitMQ node.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.directory = RUN_DIRECTORY
        self.sockets = self.directory / "run"
        self.postgres = Postgres(
            self.directory / "postgres",
            self.sockets,
            log=self.directory / "postgres.log",
            options=options,
        )
        self.valkey_socket = self.sockets / "valkey.sock"
        self.valkey = Valkey(
            self.directory / "valkey", self.valkey_socket, log=self.directory / "valkey.log"
        )
        self.broker = RabbitMQ(self.directory / "rabbitmq")
        self._virtual_hosts: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.valkey.start()
            self.broker.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop all servers and remove their data."""
        self.broker.stop()
        self.valkey.stop()
        self.postgres.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """Open a connection that commits every statement."""
        return psycopg.connect(self.postgres.url(database), autocommit=True)

    def broker_url(self, name: str) -> str:
        """Give the URL of a virtual host of its own, made where it is missing, so that systems do
        not see each other's queues.
        """
        if name not in self._virtual_hosts:
            self.broker.control("add_vhost", name)
            self.broker.control("set_permissions", "-p", name, self.broker.user, *[".*"] * 3)
            self._virtual_hosts.add(name)
        return f"{self.broker.url.rstrip('/')}/{name}"

    def server_pids(self) -> dict[str, int]:
        """Give the servers' processes by name."""
        servers = {"postgres": self.postgres, "rabbitmq": self.broker, "valkey": self.valkey}
        found = {}
        for name, server in servers.items():
            if server.process is None:
                raise BenchFault(f"{name} was not started")
            found[name] = server.process.pid
        return found

    def postgres_settings(self) -> dict[str, str]:
        """Give the settings that durability and speed hang on."""
        with self.connect("postgres") as connection:
            return {
                name: str(connection.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]
                for name in SHOWN_SETTINGS
            }
