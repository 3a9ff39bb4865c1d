"""How events are followed, step by step: what streams bring, repeat, leave out and withhold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from taskmill_client import AsyncClient, Client, NotFound, ServerUnavailable
from taskmill_client.configuration import Configuration
from taskmill_client.exchange import Exchange
from taskmill_client.following import follow
from taskmill_client.wire import Answer, Done, Emit, Lost, Open, Pause, Read, Send, Step, following

TASK = "0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e"
PATH = f"/tasks/{TASK}"
JSON = {"content-type": "application/json"}
STREAM = Answer(status=200, headers={"content-type": "text/event-stream"})
END = 6


def event(number: int, *, sequence: int | None = None) -> dict[str, Any]:
    """The n-th event of the task; in streams `sequence` is another number."""
    kind = "task.succeeded" if number == END else "task.progress"
    return {
        "id": f"{TASK}.{number}",
        "type": kind,
        "subject": TASK,
        "time": "2026-11-28T12:00:00Z",
        "sequence": number if sequence is None else sequence,
        "data": {},
    }


def sent(number: int) -> bytes:
    raw = event(number, sequence=1000 + number)
    return f"id: {1000 + number}\nevent: {raw['type']}\ndata: {json.dumps(raw)}\n\n".encode()


def snapshot(number: int, *, done: bool = False) -> bytes:
    raw = event(number, sequence=1000 + number)
    raw |= {"id": f"{TASK}.{number}.snapshot", "type": "task.snapshot", "data": {"done": done}}
    return f"id: {1000 + number}\nevent: task.snapshot\ndata: {json.dumps(raw)}\n\n".encode()


class Server:
    """Answers what is asked for; the history grows to what the script says before each thing.

    Args:
        streams: for each stream that is opened what reads of it give: bytes, a `Lost`, or a number:
            the history has grown to it.
    """

    def __init__(self, *streams: list[bytes | int | Lost]) -> None:
        self.history = 0
        self.streams = [list(one) for one in streams]
        self.reading: list[bytes | int | Lost] = []
        self.opened: list[str] = []
        self.asked: list[str] = []

    def done(self, step: Step) -> Any:
        match step:
            case Open(call):
                self.opened.append(call.headers.get("Last-Event-ID", ""))
                self.reading = self.streams.pop(0)
                return STREAM
            case Read():
                return self.read()
            case Send(call):
                self.asked.append(call.path.removeprefix(PATH))
                return self.answer(call.path, dict(call.query))
        return None

    def read(self) -> bytes | Lost:
        while self.reading and isinstance(self.reading[0], int):
            self.history = int(self.reading.pop(0))  # type: ignore[call-overload]
        found = self.reading.pop(0) if self.reading else b""
        assert not isinstance(found, int)
        return found

    def answer(self, path: str, query: dict[str, Any]) -> Answer:
        if path.endswith("/events"):
            rows = [event(n) for n in range(query["after"] + 1, self.history + 1)]
            body: Any = {"results": rows, "after": 0}
        else:
            self.history = END
            body = {"id": TASK, "version": 9, "done": True}
        return Answer(status=200, headers=JSON, body=json.dumps(body).encode())


def followed(server: Server, after: int = 0) -> list[int]:
    """The numbers of the events that are given."""
    exchange = Exchange(Configuration(url="http://tasks.example", token=""))
    flow = follow(exchange, PATH, after=after)
    numbers = []
    step: Step | Done = following(flow)
    while not isinstance(step, Done):
        found = None if isinstance(step, Pause) else server.done(step)
        if isinstance(step, Emit):
            numbers.append(step.value.sequence)
        lost = found if isinstance(found, Lost) else None
        step = following(flow, None if lost else found, lost=lost)
    return numbers


def cut() -> Lost:
    return Lost("cut", was_sent=True)


def silence() -> Lost:
    return Lost("nothing came", was_sent=True, is_silence=True)


def up_to_end(begin: int = 1) -> list[int]:
    return list(range(begin, END + 1))


def test_a_stream_that_brings_all_needs_no_more_of_the_history() -> None:
    server = Server([snapshot(0), *(sent(n) for n in up_to_end())])
    assert followed(server) == up_to_end()
    assert server.asked == ["/events"]


def test_what_a_stream_repeats_is_given_once() -> None:
    server = Server([snapshot(0), sent(1), sent(1), sent(2), sent(1), *map(sent, up_to_end(2))])
    assert followed(server) == up_to_end()


def test_what_a_stream_leaves_out_is_read_from_the_history() -> None:
    server = Server([snapshot(0), sent(1), 4, sent(4), END, sent(END)])
    assert followed(server) == up_to_end()


def test_what_happened_before_the_stream_began_is_read_from_the_history() -> None:
    server = Server([3, snapshot(3), *map(sent, up_to_end(4))])
    assert followed(server) == up_to_end()


def test_what_is_not_in_the_history_any_more_is_given_all_the_same() -> None:
    assert followed(Server([snapshot(0), sent(4), sent(5), sent(END)])) == [4, 5, END]


@pytest.mark.parametrize("end", [cut(), b"", silence()], ids=["cut", "end", "silence"])
def test_after_a_cut_the_history_is_read_and_the_stream_resumed(end: Any) -> None:
    server = Server([snapshot(0), sent(1), sent(2), 4, end], [sent(5), sent(END)])
    assert followed(server) == up_to_end()
    assert server.opened == ["", "1002"]


def test_a_cut_within_a_message_loses_nothing() -> None:
    server = Server([snapshot(0), sent(1), sent(2)[:-9], 2, cut()], list(map(sent, up_to_end(2))))
    assert followed(server) == up_to_end()


def test_a_task_that_ended_while_nobody_looked_is_followed_to_its_end() -> None:
    server = Server([END, snapshot(END, done=True)])
    assert followed(server) == up_to_end()
    assert followed(Server([END, snapshot(END, done=True)]), after=END) == []


def test_a_stream_that_stays_silent_is_not_opened_again() -> None:
    server = Server([silence()])
    assert followed(server) == up_to_end()
    assert server.opened == [""]


def test_streams_that_bring_nothing_are_given_up() -> None:
    server = Server(*([snapshot(0)] for _ in range(9)))
    assert followed(server) == up_to_end()
    assert len(server.opened) == 4


class Held(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A stream that can be asked whether it was closed."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield snapshot(0)
        yield sent(1)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def transport(held: Held) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/stream"):
            return httpx.Response(200, headers=STREAM.headers, stream=held)
        return httpx.Response(200, json={"results": [], "after": 0})

    return httpx.MockTransport(answer)


def test_closing_an_iteration_closes_its_stream() -> None:
    held = Held()
    with httpx.Client(transport=transport(held)) as http:
        events = Client("http://x", "tm_x", http=http).tasks.events(TASK)
        assert next(events).sequence == 1
        assert not held.closed
        events.close()
        assert held.closed


def test_closing_an_asynchronous_iteration_closes_its_stream() -> None:
    held = Held()

    async def main() -> None:
        async with httpx.AsyncClient(transport=transport(held)) as http:
            events = AsyncClient("http://x", "tm_x", http=http).tasks.events(TASK)
            assert (await anext(events)).sequence == 1
            assert not held.closed
            await events.aclose()
            assert held.closed

    asyncio.run(main())


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (500, ServerUnavailable)])
def test_a_task_that_is_not_there_ends_the_iteration(status: int, kind: type[Exception]) -> None:
    problem = {"code": "task_not_found", "detail": "no", "errors": []}
    answer = httpx.Response(status, json=problem)
    http = httpx.Client(transport=httpx.MockTransport(lambda _: answer))
    client = Client("http://x", "tm_x", http=http, retries=0)
    with pytest.raises(kind):
        client.tasks.get(TASK)
    if status == 404:
        with pytest.raises(kind):
            next(client.tasks.events(TASK))
