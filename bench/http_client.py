"""The HTTP load client, in a process of its own: `python -m bench.http_client MODE PORT ...`.

Plain keep-alive sockets with prepared requests, so that the client costs little of the two cores.
The bearer token comes in `BENCH_TOKEN`. Modes: `submit PORT CLIENTS SECONDS`, `bulk PORT TASKS
PER_REQUEST`, `latency PORT SAMPLES`. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
from time import perf_counter
from typing import Any

TASK = {"type": "demo.echo", "payload": {"message": "hello", "number": 42}}
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
        while len(rest) < length:
            self._buffer = rest
            self._read()
            rest = self._buffer
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


def request(path: str, body: Any, *headers: str) -> bytes:
    """Give the bytes of a POST."""
    content = json.dumps(body).encode()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {os.environ['BENCH_TOKEN']}",
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


def submit(port: int, clients: int, seconds: float) -> dict[str, Any]:
    """Post single tasks over several connections, one request in flight on each."""
    data = request("/api/v1/tasks", TASK)
    connections = [Connection(port) for _ in range(clients)]
    for connection in connections:
        for _ in range(5):
            exchange(connection, data, 202)
    selector = selectors.DefaultSelector()
    start, count = perf_counter(), 0
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send(data)
    while perf_counter() - start < seconds:
        for key, _ in selector.select(timeout=30):
            _expect(key.data.receive(), 202)
            count += 1
            key.data.send(data)
    elapsed = perf_counter() - start
    for connection in connections:
        _expect(connection.receive(), 202)
    return {"rate": count / elapsed}


def bulk(port: int, tasks: int, per_request: int) -> dict[str, Any]:
    """Post many tasks in requests of `per_request`."""
    connection = Connection(port)
    sizes = [per_request] * (tasks // per_request)
    if tasks % per_request:
        sizes.append(tasks % per_request)
    bodies = {size: request("/api/v1/tasks/bulk", {"items": [TASK] * size}) for size in set(sizes)}
    start = perf_counter()
    for size in sizes:
        exchange(connection, bodies[size], 202)
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


def main(mode: str, port: str, *arguments: str) -> None:
    """Run a mode and print what it found."""
    if mode == "submit":
        found = submit(int(port), int(arguments[0]), float(arguments[1]))
    elif mode == "bulk":
        found = bulk(int(port), int(arguments[0]), int(arguments[1]))
    else:
        found = latency(int(port), int(arguments[0]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
