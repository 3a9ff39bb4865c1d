"""A private Mosquitto for tests, on free ports, and subscribers to it.

Needs Debian's `mosquitto` and `mosquitto-clients`. Without them a test skips locally and fails
where `CI=true`.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tasks_app.management.servers import ChildServer
from tests.environment import RUN_DIRECTORY
from tests.processes import ROOT, Process, wait_for
from tests.rabbitmq import free_port

SHIPPED = ROOT / "deploy" / "mosquitto"

PROGRAM = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
_numbers = itertools.count(1)


class Mosquitto(ChildServer):
    """A broker that keeps its sessions and retained messages over an orderly stop.

    Args:
        configuration: lines beside the listeners; by default everybody may do everything.
        tls: lines of a third listener, with TLS.
    """

    name = "Mosquitto"

    def __init__(
        self, *, configuration: str = "allow_anonymous true\n", tls: Sequence[str] = ()
    ) -> None:
        self.home = RUN_DIRECTORY / f"mosquitto-{next(_numbers)}"
        super().__init__(self.home / "server.log")
        self.port, self.websocket_port, self.tls_port = free_port(), free_port(), free_port()
        self._configuration = configuration
        self._tls = tls

    def url(self, user: str = "", *, scheme: str = "mqtt") -> str:
        """Give the URL for `user:password`."""
        port = self.tls_port if scheme == "mqtts" else self.port
        return f"{scheme}://{user + '@' if user else ''}127.0.0.1:{port}"

    def text(self) -> str:
        """Give the whole configuration."""
        lines = [
            "user root" if os.geteuid() == 0 else "",
            "log_dest stdout",
            "persistence true",
            f"persistence_location {self.home}/",
            f"listener {self.port} 127.0.0.1",
            f"listener {self.websocket_port} 127.0.0.1",
            "protocol websockets",
            *([f"listener {self.tls_port} 127.0.0.1", *self._tls] if self._tls else []),
        ]
        return "\n".join(line for line in lines if line) + "\n" + self._configuration

    def start(self) -> None:
        """Start and wait until it listens."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "mosquitto.conf").write_text(self.text())
        self.launch([PROGRAM, "-c", str(self.home / "mosquitto.conf")])
        self.wait_for_answer(self._ask, OSError)

    def _ask(self) -> None:
        for port in (self.port, self.websocket_port, *([self.tls_port] if self._tls else [])):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()

    def kill(self) -> None:
        """End it at once; nothing is kept."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def require_mosquitto() -> None:
    """Skip where Mosquitto is missing; fail in CI."""
    if Path(PROGRAM).exists() and shutil.which("mosquitto_sub"):
        return
    reason = "Mosquitto is not installed (apt-get install mosquitto mosquitto-clients)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running_mosquitto(**options: Any) -> Iterator[Mosquitto]:
    """A broker for the duration."""
    require_mosquitto()
    server = Mosquitto(**options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    """A running broker with nothing retained."""
    with running_mosquitto() as server:
        yield server


def shipped_configuration(directory: Path, *users: str) -> str:
    """Give deploy/mosquitto's own configuration with these users, `{user}-word` their passwords."""
    passwords, rules = directory / "passwords", directory / "acl"
    passwords.touch(mode=0o600)
    for user in users:
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, f"{user}-word"], check=True)
    rules.write_text((SHIPPED / "acl").read_text())
    kept = ("allow_", "password_file", "acl_file", "max_", "persistent_")
    lines = (SHIPPED / "mosquitto.conf").read_text().splitlines()
    found = "".join(f"{line}\n" for line in lines if line.startswith(kept))
    found = found.replace("/mosquitto/passwords/passwords", str(passwords))
    return found.replace("/mosquitto/config/acl", str(rules))


@dataclass(frozen=True)
class Heard:
    """A message that a subscriber got."""

    topic: str
    payload: bytes
    is_retained: bool
    qos: int
    expires_in: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


class StockSubscriber:
    """`mosquitto_sub` as Debian ships it."""

    def __init__(self, server: Mosquitto, *topics: str, arguments: Sequence[str] = ()) -> None:
        filters = [part for topic in topics for part in ("-t", topic)]
        self._process = Process(
            [
                *("stdbuf", "--output=L", "mosquitto_sub", "-V", "5", "-h", "127.0.0.1"),
                *("-p", str(server.port), "-q", "2", "-d", "-F", "heard %r %q %t %p"),
                *filters,
                *arguments,
            ],
            name="mosquitto_sub",
            environment={},
        )
        wait_for(
            lambda: "Subscribed" in self._process.output(),
            reason="mosquitto_sub does not subscribe",
        )

    def heard(self) -> list[Heard]:
        """Give all messages so far."""
        found = []
        for line in self._process.output().splitlines(keepends=True):
            if line.startswith("heard ") and line.endswith("\n"):
                retained, qos, topic, payload = line.rstrip("\n").split(" ", 4)[1:]
                found.append(Heard(topic, payload.encode(), retained == "1", int(qos)))
        return found

    def stop(self) -> None:
        self._process.kill()


@contextmanager
def stock_subscriber(
    server: Mosquitto, *topics: str, arguments: Sequence[str] = ()
) -> Iterator[StockSubscriber]:
    """`mosquitto_sub` for the duration, subscribed."""
    one = StockSubscriber(server, *topics, arguments=arguments)
    try:
        yield one
    finally:
        one.stop()


class Subscriber:
    """A subscriber with a session that the broker keeps while it is away."""

    def __init__(
        self,
        server: Mosquitto,
        *topics: str,
        transport: Literal["tcp", "websockets"] = "tcp",
        user: tuple[str, str] | None = None,
    ) -> None:
        self._messages: list[Heard] = []
        self._topics = topics
        self.is_subscribed = threading.Event()
        self.refusals: list[str] = []
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"tests-{uuid.uuid4().hex[:8]}",
            protocol=MQTTProtocolVersion.MQTTv5,
            transport=transport,
        )
        self.client.reconnect_delay_set(1, 1)
        if user:
            self.client.username_pw_set(*user)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        keep = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
        keep.SessionExpiryInterval = 600
        port = server.port if transport == "tcp" else server.websocket_port
        # Mosquitto 2.0 saves only sessions that were not begun with a clean start.
        self.client.connect("127.0.0.1", port, 5, clean_start=False, properties=keep)
        self.client.loop_start()

    def _on_connect(self, client: Client, _data: Any, flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            self.refusals.append(str(reason))
        elif not flags.session_present:
            client.subscribe([(topic, 2) for topic in self._topics])

    def _on_subscribe(self, *_: Any) -> None:
        self.is_subscribed.set()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        expiry = getattr(message.properties, "MessageExpiryInterval", None)
        self._messages.append(
            Heard(message.topic, bytes(message.payload), message.retain, message.qos, expiry)
        )

    def heard(self) -> list[Heard]:
        """Give all messages so far."""
        return list(self._messages)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def subscriber(server: Mosquitto, *topics: str, **options: Any) -> Iterator[Subscriber]:
    """A subscriber for the duration, subscribed."""
    one = Subscriber(server, *topics, **options)
    try:
        assert one.is_subscribed.wait(10), one.refusals
        yield one
    finally:
        one.stop()
