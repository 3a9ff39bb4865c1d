"""The HTTP load client, in a process of its own: `python -m bench.http_client MODE PORT ...`.

Plain keep-alive sockets with prepared requests, so that the client costs little of the two cores.
The bearer token comes in `BENCH_TOKEN`. Modes: `submit PORT CLIENTS SECONDS STATUS`, `bulk PORT
TASKS BYTES KEYS`, `latency PORT SAMPLES`, `limit PORT CONCURRENCY RATE` (`None` lifts). Prints one
line of JSON.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
from time import perf_counter
from typing import Any

from bench.payload import make_payload

TASK = {"type": "demo.echo", "payload": make_payload(0)}
ITEMS_PER_REQUEST = 1000
BYTES_PER_REQUEST = 20_000_000
KEY_CONCURRENCY = 1000
CHUNK = 1 << 18
WARM_UP_SECONDS = 90.0


class Connection:
    """One keep-alive connection.

    Args:
        port: of the server on the loopback interface.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes]:
        """Read one answer; give its status and body."""
        while b"\r\n\r\n" not in self._buffer:
            self._read()
        head, rest = self._buffer.split(b"\r\n\r\n", 1)
        length = _content_length(head)
        parts, missing = [rest], length - len(rest)
        while missing > 0:
            self._buffer = b""
            self._read()
            parts.append(self._buffer)
            missing -= len(self._buffer)
        rest = b"".join(parts)
        self._buffer = rest[length:]
        return int(head[9:12]), rest[:length]

    def _read(self) -> None:
        data = self.socket.recv(CHUNK)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError(f"no Content-Length in {head!r}")


def request(
    path: str, body: Any, *headers: str, method: str = "POST", token: str | None = None
) -> bytes:
    """Give the bytes of a request with a body of JSON, by the token of the environment if none is
    given.
    """
    content = json.dumps(body).encode()
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {token or os.environ['BENCH_TOKEN']}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def exchange(connection: Connection, data: bytes, expected: int) -> bytes:
    """Send a request and give the body of the answer; leave where its status is another one."""
    connection.send(data)
    return _expect(connection.receive(), expected)


def _expect(answer: tuple[int, bytes], expected: int) -> bytes:
    status, body = answer
    if status != expected:
        raise SystemExit(f"HTTP {status}: {body[:500]!r}")
    return body


def submit(port: int, clients: int, seconds: float, status: int) -> dict[str, Any]:
    """Post single tasks over several connections, one request in flight on each."""
    data = request("/api/v1/tasks", TASK)
    connections = [Connection(port) for _ in range(clients)]
    for connection in connections:
        for _ in range(5):
            exchange(connection, data, status)
    selector = selectors.DefaultSelector()
    start, count = perf_counter(), 0
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(data)
    while perf_counter() - start < seconds:
        for key, _ in selector.select(timeout=30):
            _expect(key.data.receive(), status)
            count += 1
            key.data.send(data)
    elapsed = perf_counter() - start
    for connection in connections:
        _expect(connection.receive(), status)
    return {"rate": count / elapsed, "accepted": count + 6 * clients}


def bulk(port: int, tasks: int, payload_bytes: int, keys: int) -> dict[str, Any]:
    """Post many tasks a request, spread over so many concurrency keys."""
    connection = Connection(port)
    task: dict[str, Any] = TASK | {"payload": make_payload(payload_bytes)}
    items = [task] * tasks
    if keys:
        rule = {"max_concurrency": KEY_CONCURRENCY}
        items = [task | rule | {"concurrency_key": f"busy-{n % keys}"} for n in range(tasks)]
    most = max(1, BYTES_PER_REQUEST // payload_bytes) if payload_bytes else ITEMS_PER_REQUEST
    parts = [items[start : start + most] for start in range(0, tasks, most)]
    bodies = [request("/api/v1/tasks/bulk", {"items": part}) for part in parts]
    start = perf_counter()
    for body in bodies:
        exchange(connection, body, 202)
    return {"rate": tasks / (perf_counter() - start)}


def latency(port: int, samples: int) -> dict[str, Any]:
    """Post a task and wait for its result in the same request; gives milliseconds."""
    data = request("/api/v1/tasks", TASK, "Prefer: wait=10")
    connection = Connection(port)
    warm, end = 0, perf_counter() + WARM_UP_SECONDS
    while warm < 5:
        connection.send(data)
        status, body = connection.receive()
        warm += status == 200
        if perf_counter() > end or status not in {200, 202}:
            raise SystemExit(f"not warm: HTTP {status}: {body[:500]!r}")
    times = []
    for _ in range(samples):
        start = perf_counter()
        body = exchange(connection, data, 200)
        times.append((perf_counter() - start) * 1000)
        if json.loads(body)["status"] != "success":
            raise SystemExit(f"no success: {body!r}")
    return {"milliseconds": times}


def limit(port: int, concurrency: str, rate: str) -> dict[str, Any]:
    """Limit the task type or lift its limits."""
    body = {
        "concurrency": None if concurrency == "None" else int(concurrency),
        "rate": None if rate == "None" else rate,
    }
    path = f"/api/v1/task-types/{TASK['type']}"
    exchange(Connection(port), request(path, body, method="PATCH"), 200)
    return body


def main(mode: str, port: str, *arguments: str) -> None:
    """Run a mode and print what it found."""
    if mode == "submit":
        clients, seconds, status = arguments
        found = submit(int(port), int(clients), float(seconds), int(status))
    elif mode == "limit":
        found = limit(int(port), *arguments)
    else:
        found = {"bulk": bulk, "latency": latency}[mode](int(port), *map(int, arguments))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
