"""A web process for tests, and a reader of its server-sent events."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from tests.processes import Process, process_environment, wait_for


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass(frozen=True)
class Web:
    """A running web process."""

    url: str
    process: Process

    def is_up(self) -> bool:
        """Say whether it answers; fails where it has ended."""
        assert self.process.popen.poll() is None, self.process.output()
        try:
            return httpx.get(f"{self.url}/livez", verify=False).status_code == 200
        except httpx.TransportError:
            return False


def start_web(*, port: int = 0, **variables: str) -> Web:
    """Start a web process as the Procfile does, on the test database; on a free port for 0."""
    port = port or free_port()
    command = [sys.executable, "-m", "uvicorn", "config.asgi:application"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "config.http:Protocol", "--lifespan", "off", "--no-access-log"]
    command += ["--ws-max-size", "262144", "--ws-per-message-deflate", "false"]
    command += ["--timeout-graceful-shutdown", "10"]
    environment = process_environment(**{"PORT": str(port)} | variables)
    process = Process(command, name="web", environment=environment)
    return Web(f"http://127.0.0.1:{port}", process)


@contextmanager
def web(*, port: int = 0, **variables: str) -> Iterator[Web]:
    """A web process that answers, for the duration."""
    found = start_web(port=port, **variables)
    try:
        wait_for(found.is_up)
        yield found
    finally:
        if found.process.popen.poll() is None:
            found.process.kill()


@dataclass(frozen=True)
class SentEvent:
    """One event as a browser's EventSource would see it; `id` is the last one sent so far."""

    id: str
    type: str
    data: Any


class Events:
    """The events of one response, read line by line by the rules of the HTML standard."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.comments = 0
        self.retry = 0
        self.last_id = ""

    async def __aiter__(self) -> AsyncIterator[SentEvent]:
        kind, data = "", ""
        async for line in self.response.aiter_lines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    yield SentEvent(self.last_id, kind or "message", orjson.loads(data))
                kind, data = "", ""
            elif not name:
                self.comments += 1
            elif name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data += value
            elif name == "retry":
                self.retry = int(value)


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Events]:
    """An open stream; header names have underscores for hyphens."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.stream("GET", path, headers=sent) as response:
        assert response.status_code == 200, await response.aread()
        yield Events(response)
