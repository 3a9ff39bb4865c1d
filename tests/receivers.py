"""Webhook receivers for tests: a real HTTP server that answers as it is told and keeps what came.

`Receiver` speaks HTTP; what no HTTP server would do is written on the raw socket by a `script`.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
from standardwebhooks import Webhook

from tests.processes import wait_for


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return orjson.loads(self.body)

    def verified(self, secret: str) -> Any:
        """The event, once the stock library has verified the signature."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Answer:
    """What to answer; `script` takes the raw socket instead."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    script: Callable[[socket.socket], None] | None = None


class Receiver:
    """A running server. `answers` are given in turn, the last one for ever."""

    def __init__(
        self, context: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.received: list[Received] = []
        self.answers: list[Answer] = [Answer()]
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.append(Received(self.path, headers, body, self.command))
                number = min(len(outer.received), len(outer.answers)) - 1
                answer = outer.answers[number]
                outer.gate.wait(30)
                self.close_connection = True
                if answer.script is not None:
                    answer.script(self.connection)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST  # noqa: N815 - named by the standard library

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Server((host, port), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http://{host}:{self.port}/hook"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, *statuses: int, **headers: str) -> None:
        """Answer with these statuses in turn; header names have underscores for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers = [Answer(status=one, headers=named) for one in statuses]

    def wait(self, count: int = 1, *, seconds: float = 20.0) -> list[Received]:
        """Wait until so many requests have come, and give all."""
        wait_for(lambda: len(self.received) >= count, seconds=seconds, reason="requests")
        return list(self.received)

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver for the duration."""
    one = Receiver(context)
    try:
        yield one
    finally:
        one.close()


class Trap:
    """Listens on a port, and counts who connects."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.connections = 0
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._socket.bind((host, 0))
        self._socket.listen(50)
        self._socket.settimeout(0.05)
        self.port = self._socket.getsockname()[1]

    def count(self) -> int:
        """Give how many have connected by now."""
        try:
            while True:
                self._socket.accept()[0].close()
                self.connections += 1
        except TimeoutError:
            return self.connections

    def close(self) -> None:
        self._socket.close()
