"""The whole platform on this machine: which servers and programs it is made of, in which order they
start and stop, and when it is ready.

`manage.py up` is its only user. The parts that it joins know nothing of each other: `servers`,
`supervisor`, `leftovers`.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psycopg
from django.conf import settings

from tasks_app import db
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.errors import InfrastructureError
from tasks_app.management.leftovers import end_processes, marked_processes
from tasks_app.management.servers import ChildServer, Postgres, Valkey
from tasks_app.management.supervisor import Program

HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 90.0
BACKLOG: Final = 1024
START_ORDER: Final = ("engine", "worker", "web", "beat")
STOP_ORDER: Final = ("web", "beat", "worker", "engine")
_DATABASE_PORTION: Final = "128MB"


class AlreadyRunning(InfrastructureError):
    """This installation is already running; stop it first, or set TASKMILL_VAR elsewhere."""

    code = "already_running"


class PortTaken(InfrastructureError):
    """Another program holds the port."""

    code = "port_taken"


class DirectoryClosed(InfrastructureError):
    """The installation's directory cannot be used."""

    code = "directory_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The right to run an installation; held as long as the process lives."""

    file: IO[str]


def take_directory(var: Path) -> Lock:
    """Make the directory and take the right to run in it.

    Raises:
        AlreadyRunning: somebody else has it.
        DirectoryClosed: it cannot be made or written.
    """
    try:
        var.mkdir(parents=True, exist_ok=True)
        # PostgreSQL's account passes through when root starts it; it cannot list or read
        var.chmod(0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(var / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DirectoryClosed(
            f"cannot write to {var} ({error.strerror}); set TASKMILL_VAR to a directory of yours"
        ) from error
    file = os.fdopen(descriptor, "r+", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read().strip()
        file.close()
        raise AlreadyRunning(
            f"Taskmill already runs in {var} (process {holder or 'unknown'}); stop it first, "
            "or set TASKMILL_VAR and PORT for a second one"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return Lock(file=file)


def take_port(port: int) -> socket.socket:
    """Listen on the port; the web process inherits it, so that it is ours over its restarts.

    Raises:
        PortTaken: it is not to be had.
    """
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # accepted sockets inherit it; without it each answer waits 40 ms for the client's ACK
    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        taken.bind((HOST, port))
        taken.listen(BACKLOG)  # until then, another one could bind it too
    except OSError as error:
        taken.close()
        raise PortTaken(
            f"port {port} is not free ({error.strerror}); stop the program that holds it, "
            f"or choose another: PORT={port + 1}"
        ) from error
    return taken


def end_leftovers(var: Path) -> int:
    """End what a killed supervisor left running here, and say how many processes there were."""
    return end_processes(marked_processes(var), grace_seconds=2.0)


def embedded_servers() -> list[ChildServer]:
    """Give the servers that no URL in the environment replaces, in the order of their start."""
    paths = settings.EMBEDDED
    logs = paths.var / "logs"
    found: list[ChildServer] = []
    if settings.IS_EMBEDDED:
        options = [
            "fsync=on",
            "full_page_writes=on",
            "synchronous_commit=on",
            f"shared_buffers={_DATABASE_PORTION}",
            "max_connections=200",
            "jit=off",
            "log_checkpoints=off",
            "timezone=UTC",
            "log_timezone=UTC",
        ]
        log = logs / "postgres.log"
        found.append(Postgres(paths.postgres_data, paths.sockets, log=log, options=options))
    if str(paths.valkey_socket) in settings.BROKER_URL + settings.REDIS_URL:
        found.append(Valkey(paths.valkey_data, paths.valkey_socket, log=logs / "valkey.log"))
    return found


def make_database(server: ChildServer) -> None:
    """Create the database that the settings name on an embedded PostgreSQL."""
    if isinstance(server, Postgres):
        server.create_database(settings.DATABASES["default"]["NAME"])


def programs(*, web_socket: int, concurrency: int) -> dict[str, Program]:
    """Give the programs of the platform by name.

    Args:
        web_socket: file descriptor of the bound port.
        concurrency: tasks that the worker runs at a time.
    """
    grace = conf().shutdown_grace_seconds + conf().kill_grace_seconds
    web = (
        *(sys.executable, "-m", "uvicorn", "config.asgi:application", "--fd", str(web_socket)),
        *("--loop", "uvloop", "--http", "config.http:Protocol", "--lifespan", "off"),
        *("--ws-max-size", "262144", "--ws-per-message-deflate", "false"),
        *("--no-access-log", "--timeout-graceful-shutdown", "5"),
    )
    worker = (
        *(sys.executable, "manage.py", "worker"),
        *("--concurrency", str(concurrency), "--loglevel", "INFO"),
    )
    engine = (sys.executable, "manage.py", "engine")
    beat = (
        *(sys.executable, "-m", "celery", "-A", "config", "beat"),
        *("--pidfile=", "--loglevel", "WARNING"),
    )
    made = (
        Program(name="web", command=web, stop_seconds=10.0, files=(web_socket,)),
        Program(name="worker", command=worker, stop_seconds=grace + 10.0),
        Program(name="engine", command=engine, stop_seconds=10.0),
        Program(name="beat", command=beat, stop_seconds=5.0),
    )
    return {program.name: program for program in made}


class Readiness:
    """Asks, at most every 0.2 s, whether web, worker and engine are at work.

    Args:
        port: where web listens.
    """

    def __init__(self, port: int) -> None:
        self.missing = "web, worker, engine"
        self.is_ready = False
        self._port = port
        self._next_look = 0.0

    def __call__(self) -> bool:
        """Say whether all of them are; `missing` names those that are not."""
        now = monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + 0.2
        looks = {"worker": _has_worker, "engine": _has_leader, "web": self._answers}
        missing = [name for name, look in looks.items() if not look()]
        self.missing = ", ".join(missing)
        self.is_ready = not missing
        return self.is_ready

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=1.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


_WORKER = """
SELECT 1 FROM taskmill_worker WHERE NOT is_stopping
AND last_seen_at > taskmill_now() - make_interval(secs => %s) LIMIT 1
"""
_LEADER = "SELECT 1 FROM taskmill_leader WHERE expires_at > taskmill_now() LIMIT 1"


def _has_worker() -> bool:
    return _finds(_WORKER, [conf().lease_seconds])


def _has_leader() -> bool:
    return _finds(_LEADER, [])


def _finds(query: str, values: list[float]) -> bool:
    try:
        with db.connect("up") as connection:
            return connection.execute(query, values).fetchone() is not None
    except psycopg.Error:
        return False
