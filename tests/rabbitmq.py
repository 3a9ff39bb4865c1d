"""A private RabbitMQ node for tests: own name, ports, data, user and epmd.

Nothing of the machine's is touched. Needs Debian's `rabbitmq-server` package. Without it a test
skips locally and fails where `CI=true`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_app.clock import monotonic
from tasks_app.management.servers import ChildServer
from tests.environment import RUN_DIRECTORY

SCRIPTS = Path("/usr/lib/rabbitmq/bin")
START_SECONDS = 120.0
CONTROL_SECONDS = 60.0


def free_port() -> int:
    """Give a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Epmd(ChildServer):
    """Erlang's port mapper in the foreground, so that it ends with the node."""

    def start(self, port: int) -> None:
        program = shutil.which("epmd")
        assert program is not None
        self.launch([program, "-port", str(port), "-address", "127.0.0.1"])


class RabbitMQ(ChildServer):
    """A RabbitMQ node on free ports with everything it writes below `home`."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / "server.log")
        self.home = home
        self.port = free_port()
        self.user, self.password = "taskmill", secrets.token_hex(8)
        self._dist_port, self._epmd_port = free_port(), free_port()
        self._epmd = Epmd(home / "epmd.log")
        self.environment = self._environment()

    @property
    def url(self) -> str:
        """The broker URL of the node."""
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}//"

    def _environment(self) -> dict[str, str]:
        home = self.home
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "RABBITMQ_NODENAME": f"taskmill-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self) -> None:
        """Start and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        cookie = self.home / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        (self.home / "plugins").write_text("[].")
        (self.home / "rabbitmq.conf").write_text(
            f"default_user = {self.user}\ndefault_pass = {self.password}\n"
            "loopback_users = none\nlog.file = false\nlog.console = true\n"
            "log.console.level = warning\n"
        )
        if not self._epmd.is_running():
            self._epmd.start(self._epmd_port)
        self.launch([str(SCRIPTS / "rabbitmq-server")], env=self.environment)
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        """Wait until the node lets a client in."""
        import amqp

        end = monotonic() + START_SECONDS
        while monotonic() < end:
            if not self.is_running():
                raise self.fault("RabbitMQ stopped at its start")
            try:
                with amqp.Connection(
                    f"127.0.0.1:{self.port}",
                    userid=self.user,
                    password=self.password,
                    connect_timeout=2,
                ):
                    return
            except (OSError, amqp.AMQPError):
                assert self.process is not None
                try:
                    self.process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
        raise self.fault(f"RabbitMQ did not answer within {START_SECONDS:.0f} s")

    def kill(self) -> None:
        """End the node without warning, as a crash does."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def halt(self) -> None:
        """Stop in order, to be started again on the same data and ports.

        After a kill within a second or two of a quorum queue's declaration the node may never
        answer for that queue again.
        """
        super().stop()

    def restart(self) -> None:
        """Stop in order and start again."""
        self.halt()
        self.start()

    def control(self, *command: str) -> str:
        """Run `rabbitmqctl` and give what it printed."""
        done = subprocess.run(
            [str(SCRIPTS / "rabbitmqctl"), "--quiet", *command],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=CONTROL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"rabbitmqctl {' '.join(command)}: {done.stderr}{done.stdout}"
        return done.stdout

    def stop_app(self) -> None:
        """Stop the broker inside the running node: clients are cut off, data stays."""
        self.control("stop_app")

    def start_app(self) -> None:
        """Start the broker inside the node again."""
        self.control("start_app")

    def stop(self) -> None:
        """Stop the node, then its port mapper."""
        super().stop()
        self._epmd.stop()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A running RabbitMQ node of this run."""
    if not (SCRIPTS / "rabbitmq-server").exists() or shutil.which("epmd") is None:
        reason = "RabbitMQ is not installed (apt-get install rabbitmq-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RabbitMQ(RUN_DIRECTORY / "rabbitmq")
    server.start()
    yield server
    server.stop()
