"""The events of a task as they happen: each once, in order, none missing.

The history (`GET /tasks/{id}/events`) is what is true; a stream says when there is more of it and
mostly brings it along. What a stream brings is handed on only where it follows what came last;
else, and after every cut, the history is read from there.
"""

from __future__ import annotations

import json
from time import monotonic
from typing import Final

from taskmill_client.errors import ApiError, TooManyRequests, UnexpectedAnswer
from taskmill_client.events import Event, EventReader, SentEvent, event_of
from taskmill_client.exchange import NOT_MODIFIED, Exchange
from taskmill_client.pages import LINES
from taskmill_client.waiting import POLL_SECONDS, Outage, Polls, poll_call
from taskmill_client.wire import Answer, Call, Emit, Flow, Lost, Open, Pause, Read

SILENCE_SECONDS: Final = 20.0
FRUITLESS_STREAMS: Final = 3
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 5.0
_OK: Final = 200
_SEEN_THE_END: Final = 204


def follow(exchange: Exchange, path: str, *, after: int) -> Flow[None]:
    """Emit the events after the number `after`, to the final one; see `TaskOperations.events`."""
    yield from Following(exchange, path, after).to_the_end()


class Following:
    """One iteration over a task's events.

    Args:
        path: of the task.
        after: the number, within the task, of the last event that is known.
    """

    def __init__(self, exchange: Exchange, path: str, after: int) -> None:
        self._exchange = exchange
        self._path = path
        self._after = after
        self._is_final = False
        self._last_id = ""
        self._fruitless = 0
        self._has_streams = True
        self._version: int | None = None
        self._outage = Outage()
        self._polls = Polls()

    def to_the_end(self) -> Flow[None]:
        """Go on until the task has ended and its last event was emitted.

        Raises:
            ApiError: the server says no, or has been away for minutes.
        """
        while True:
            try:
                is_over = yield from self._round()
            except ApiError as error:
                yield Pause(self._outage.next_pause(error))
                continue
            if is_over:
                return

    def _round(self) -> Flow[bool]:
        if (yield from self._history()):
            return True
        self._outage.is_over()
        if self._has_streams:
            return (yield from self._streamed())
        return (yield from self._polled())

    def _history(self) -> Flow[bool]:
        """Emit what the history holds after the last event; say whether that was the end."""
        while True:
            query = {"after": self._after, "limit": LINES}
            call = Call(method="GET", path=f"{self._path}/events", query=query)
            page = yield from self._exchange.json(call)
            for raw in page["results"]:
                yield from self._emit(event_of(raw))
            if len(page["results"]) < LINES:
                return self._is_final

    def _emit(self, event: Event) -> Flow[None]:
        self._after = event.sequence
        self._is_final = event.is_final
        self._fruitless = 0
        yield Emit(event)

    def _streamed(self) -> Flow[bool]:
        """Read one stream to its end; say whether it was that of the task."""
        answer = yield from self._opened()
        if answer is None:
            return False
        if answer.status == _SEEN_THE_END:
            yield from self._history()
            return True
        reader, has_begun, is_held = EventReader(), False, False
        while True:
            try:
                chunk: bytes = yield Read()
            except Lost as lost:
                is_held = lost.is_silence and not has_begun
                break
            if not chunk:
                break
            has_begun = True
            for message in reader.feed(chunk):
                if (yield from self._heard(message)):
                    return True
        yield from self._cut(is_lasting=is_held)
        return False

    def _opened(self) -> Flow[Answer | None]:
        """Open a stream; None where there is none to be had, so that it is to be polled."""
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        call = Call(
            method="GET",
            path=f"{self._path}/stream",
            headers=headers,
            silence_seconds=SILENCE_SECONDS,
        )
        try:
            answer: Answer = yield Open(call)
        except Lost as lost:
            self._fails(is_lasting=lost.is_silence)
            raise self._exchange.unreachable(lost) from lost
        is_stream = "text/event-stream" in answer.headers.get("content-type", "")
        if answer.status == _SEEN_THE_END or (answer.status == _OK and is_stream):
            return answer
        found = self._exchange.checked(call, answer)
        is_lasting = isinstance(found, Answer | TooManyRequests | UnexpectedAnswer)
        self._fails(is_lasting=is_lasting)
        if isinstance(found, ApiError) and not is_lasting:
            raise found
        return None

    def _fails(self, *, is_lasting: bool) -> None:
        """Note a stream that brought nothing; after several, or a lasting reason, do without."""
        self._fruitless += 1
        if is_lasting or self._fruitless > FRUITLESS_STREAMS:
            self._has_streams = False

    def _cut(self, *, is_lasting: bool) -> Flow[None]:
        self._fails(is_lasting=is_lasting)
        if self._has_streams:
            yield Pause(min(FIRST_PAUSE_SECONDS * 2.0**self._fruitless, LONGEST_PAUSE_SECONDS))

    def _heard(self, message: SentEvent) -> Flow[bool]:
        """Emit what a message brings; say whether it was the end of the task."""
        if not message.type.startswith("task."):
            return False
        event = event_of(json.loads(message.data))
        if event.type == "task.snapshot":
            is_end = bool(event.data.get("done"))
            if event.sequence > self._after or is_end:
                yield from self._history()
        else:
            yield from self._follows(event)
            is_end = self._is_final
        self._last_id = message.id
        return is_end

    def _follows(self, event: Event) -> Flow[None]:
        if event.sequence > self._after + 1:
            yield from self._history()
        if event.sequence > self._after:
            yield from self._emit(event)

    def _polled(self) -> Flow[bool]:
        """Wait for another version of the task; say whether it has ended and all was emitted."""
        call = poll_call(self._path, POLL_SECONDS, self._version)
        if self._version is None:
            call = Call(method="GET", path=self._path)
        began = monotonic()
        answer = yield from self._exchange.ask(call)
        is_news = answer.status != NOT_MODIFIED
        if is_news:
            task = self._exchange.decoded(call, answer)
            self._version = task["version"]
            if task["done"]:
                yield from self._history()
                return True
        pause = self._polls.pause_after(
            asked_seconds=POLL_SECONDS, took_seconds=monotonic() - began, is_news=is_news
        )
        if pause > 0:
            yield Pause(pause)
        return False
