"""A TCP proxy that fails as told: it loses answers, cuts streams, and holds them back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.rabbitmq import free_port

BYTES = 65_536


class Proxy:
    """Hands connections on to a port of this machine, one thread for each direction.

    Attributes:
        heads: the first line of each request, in the order of arrival.
        lose_answers: of so many of the next connections whose request fits `losing` the answer is
            thrown away and the connection cut.
        cut_after: a connection is cut after so many bytes of an answer to `GET .../stream`.
        refuse_streams: the status to answer `GET .../stream` with.
        is_holding_streams: answers to `GET .../stream` are kept back.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.heads: list[str] = []
        self.lose_answers = 0
        self.losing: Callable[[str], bool] = lambda head: head.startswith("POST")
        self.cut_after: int | None = None
        self.refuse_streams = 0
        self.is_holding_streams = False
        self.cuts = 0
        self.open_streams = 0
        self._streams: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", self.port))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def cut(self) -> None:
        """Cut the streams that are open."""
        for one in list(self._streams):
            self.cuts += 1
            one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            with near, socket.create_connection(("127.0.0.1", self._to)) as far:
                while request := _request(near):
                    self._one(near, far, request)
        except (OSError, _Cut):
            pass

    def _one(self, near: socket.socket, far: socket.socket, request: bytes) -> None:
        head = request.split(b"\r\n", 1)[0].decode()
        self.heads.append(head)
        if self.refuse_streams and "/stream" in head:
            near.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % self.refuse_streams)
            return
        far.sendall(request)
        if "/stream" in head:
            self._stream(near, far)
        with self._lock:
            is_lost = self.lose_answers > 0 and self.losing(head)
            self.lose_answers -= is_lost
        answer = _answer(far)
        if is_lost:
            self.cuts += 1
            raise _Cut
        near.sendall(answer)

    def _stream(self, near: socket.socket, far: socket.socket) -> None:
        watcher = threading.Thread(target=_until_closed, args=(near, far), daemon=True)
        watcher.start()
        left = self.cut_after
        self.open_streams += 1
        self._streams.add(far)
        try:
            while chunk := far.recv(BYTES):
                if self.is_holding_streams:
                    continue
                near.sendall(chunk if left is None else chunk[:left])
                left = None if left is None else left - len(chunk)
                if left is not None and left <= 0:
                    self.cuts += 1
                    break
        finally:
            self.open_streams -= 1
            self._streams.discard(far)
        near.shutdown(socket.SHUT_RDWR)
        raise _Cut


class _Cut(Exception):
    """The connection is to be cut."""


def _until_closed(near: socket.socket, far: socket.socket) -> None:
    try:
        while near.recv(BYTES):
            pass
        far.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _request(sock: socket.socket) -> bytes:
    return _message(sock, is_answer=False)


def _answer(sock: socket.socket) -> bytes:
    return _message(sock, is_answer=True)


def _message(sock: socket.socket, *, is_answer: bool) -> bytes:
    """Read one whole message with `Content-Length` or in chunks."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(BYTES)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    is_chunked = fields.get(b"transfer-encoding") == b"chunked"
    length = int(fields.get(b"content-length", b"0"))
    is_empty = is_answer and head.split(b" ", 2)[1] in {b"204", b"304"}
    while not is_empty and (not body.endswith(b"0\r\n\r\n") if is_chunked else len(body) < length):
        body += sock.recv(BYTES)
    return head + b"\r\n\r\n" + body
