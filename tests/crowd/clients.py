"""Clients of a crowd: each watches by one transport, is cut off, resumes, and notes what it got."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tasks_app.events import EventType
from tests.crowd.truth import Step, Story, Wish, gaps
from tests.web import streaming

ALL_TYPES = frozenset(kind.value for kind in EventType)
CUT_OFF = (OSError, WebSocketException, httpx.HTTPError, TimeoutError, EOFError)


class Watcher:
    """One client.

    Args:
        urls: of the web processes; it connects to any of them, each time anew.
        wish: which tasks it has asked for.
        is_flaky: whether it hangs up now and then, without a word, until it `has_settled`.
    """

    transport = ""

    def __init__(self, urls: Sequence[str], token: str, wish: Wish, *, is_flaky: bool) -> None:
        self.connections = 0
        self.has_settled = False
        self.wrong: list[str] = []
        self._urls = urls
        self._token = token
        self._wish = wish
        self.is_flaky = is_flaky
        self._chance = random.Random()
        self._left = 0

    @property
    def has_begun(self) -> bool:
        """Whether it has seen anything."""
        raise NotImplementedError

    async def watch(self) -> None:
        """Watch for ever."""
        while True:
            self.connections += 1
            self._left = self._chance.randint(20, 120) if self.is_flaky else 0
            try:
                await self.once(self._chance.choice(self._urls))
            except CUT_OFF:
                await asyncio.sleep(self._chance.uniform(0.1, 0.8))

    async def once(self, url: str) -> None:
        """Connect, ask for what is not seen yet, and note what comes until something ends it."""
        raise NotImplementedError

    def hangs_up(self) -> bool:
        """Count a message; say whether a flaky client has had enough."""
        self._left -= 1
        return self.is_flaky and not self.has_settled and self._left <= 0

    def faults(self, truth: dict[str, Story]) -> list[str]:
        """Say what is missing or wrong by what was committed."""
        raise NotImplementedError


class StreamWatcher(Watcher):
    """A client of the feed by cursor: events come once, in order, whatever happens between.

    Args:
        asks: names of tasks, tags or types, as the transports take them.
        begins_at_zero: it asks for everything from the first event on; else for snapshots.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str,
        wish: Wish,
        *,
        is_flaky: bool,
        asks: dict[str, list[str]],
        begins_at_zero: bool,
    ) -> None:
        super().__init__(urls, token, wish, is_flaky=is_flaky)
        self.cursor: int | None = 0 if begins_at_zero else None
        self._asks = asks | {"types": sorted(ALL_TYPES)}
        self._got: defaultdict[str, list[Step]] = defaultdict(list)
        self._snapshots: dict[str, int] = {}
        self._messages = 0

    @property
    def has_begun(self) -> bool:
        return self._messages > 0

    def note(self, event: dict[str, Any], cursor: int | None) -> None:
        """Note a CloudEvent and the place that it moves the cursor to."""
        self._messages += 1
        task, number, *more = event["id"].split(".")
        if more:
            self._snapshots[task] = max(self._snapshots.get(task, 0), int(number))
        else:
            if cursor is None or cursor <= (self.cursor or 0):
                self.wrong.append(f"{event['id']} at {cursor} after {self.cursor}")
            self._got[task].append(Step(int(number), event["type"]))
        if cursor is not None:
            self.cursor = max(cursor, self.cursor or 0)

    def faults(self, truth: dict[str, Story]) -> list[str]:
        found = list(self.wrong)
        found += [f"{task} was never committed" for task in self._got.keys() - truth.keys()]
        for story in truth.values():
            got = list(self._got.get(story.id, ()))
            if not self._wish(story):
                found += [f"{story.id} was not asked for"] if got else []
                continue
            after = self._snapshots.get(story.id, 0)
            expected = [step for step in story.steps if step.seq > after]
            # A snapshot may show what follows it in the feed, for a client that resumes from it.
            got = [step for step in got if step.seq > after]
            found += [f"{story.id}: {what}" for what in gaps(expected, got)]
        return found


class WebSocketWatcher(StreamWatcher):
    """By WebSocket, with the stock client."""

    transport = "websocket"
    _awaited = 0

    async def once(self, url: str) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        address = f"ws{url.removeprefix('http')}/ws/v1/events"
        asked: dict[str, Any] = {"op": "subscribe", "id": 1, **self._asks}
        if self.cursor is not None:
            asked["after"] = str(self.cursor)
        async with connect(
            address, additional_headers=headers, proxy=None, open_timeout=10, close_timeout=1
        ) as socket:
            await socket.send(orjson.dumps(asked).decode())
            async for text in socket:
                if not self._take(orjson.loads(text)):
                    return
                if self.hangs_up():
                    socket.transport.abort()
                    return

    def _take(self, message: dict[str, Any]) -> bool:
        """Note a message; a client that is cut off among its snapshots has to begin anew."""
        if message["op"] == "event":
            event = message["event"]
            is_snapshot = event["type"] == "task.snapshot"
            self._awaited -= is_snapshot
            self.note(event, event["sequence"] if not self._awaited or not is_snapshot else None)
        elif message["op"] == "ack":
            self._awaited = len(self._asks.get("tasks", ())) if self.cursor is None else 0
            if self.cursor is None and not self._awaited:
                self.cursor = int(message["after"])
        elif message["op"] != "closing":
            self.wrong.append(f"refused: {message}")
        return bool(message["op"] != "closing")


class SseWatcher(StreamWatcher):
    """By server-sent events, with the header that a browser's EventSource sends."""

    transport = "sse"

    async def once(self, url: str) -> None:
        query = "&".join(f"{name}={','.join(words)}" for name, words in self._asks.items())
        headers = {} if self.cursor is None else {"Last_Event_ID": str(self.cursor)}
        async with (
            httpx.AsyncClient(
                base_url=f"{url}/api/v1",
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=httpx.Timeout(30, connect=10),
                trust_env=False,
                verify=False,
            ) as client,
            streaming(client, f"/events/stream?{query}", **headers) as events,
        ):
            async for event in events:
                if event.type == "stream.reset":
                    self.wrong.append("reset")
                    continue
                self.note(event.data, int(event.id) if event.id else None)
                if self.hangs_up():
                    return


class SignalRWatcher(Watcher):
    """By SignalR's JSON protocol: after a reconnect it subscribes again to what is still open."""

    transport = "signalr"

    def __init__(
        self, urls: Sequence[str], token: str, tasks: Sequence[str], *, is_flaky: bool
    ) -> None:
        super().__init__(urls, token, lambda story: story.id in tasks, is_flaky=is_flaky)
        self._open = set(tasks)
        self._progress: dict[str, float] = {}
        self._ends: dict[str, str] = {}

    @property
    def has_begun(self) -> bool:
        return bool(self._progress or self._ends)

    async def once(self, url: str) -> None:
        address = f"ws{url.removeprefix('http')}/hubs/notifications?access_token={self._token}"
        async with connect(address, proxy=None, open_timeout=10, close_timeout=1) as socket:
            await socket.send(_record(protocol="json", version=1))
            for task in sorted(self._open):
                called = _record(
                    type=1, target="SubscribeToTask", arguments=[task], invocationId=task
                )
                await socket.send(called)
            async for text in socket:
                for record in str(text).split("\x1e")[:-1]:
                    message = orjson.loads(record)
                    if message.get("type") == 6:
                        await socket.send(_record(type=6))
                    self._take(message)
                if self.hangs_up():
                    socket.transport.abort()
                    return

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("error") and message.get("type") != 7:
            self.wrong.append(f"refused: {message}")
        if message.get("type") != 1:
            return
        [told] = message["arguments"]
        task = told["taskId"]
        if task in self._ends:
            self.wrong.append(f"{task}: {message['target']} after its end")
        elif message["target"] == "TaskProgress":
            if told["progress"] < self._progress.get(task, 0.0):
                self.wrong.append(f"{task}: progress went back")
            self._progress[task] = told["progress"]
        else:
            self._ends[task] = message["target"]
            self._open.discard(task)

    def faults(self, truth: dict[str, Story]) -> list[str]:
        found = list(self.wrong)
        wanted_ids = {story.id for story in truth.values() if self._wish(story)}
        found += [f"{task} was not asked for" for task in self._ends.keys() - wanted_ids]
        for story in filter(self._wish, truth.values()):
            is_success = story.end.type == "task.succeeded"
            wanted = "TaskCompleted" if is_success else "TaskFailed"
            if self._ends.get(story.id) != wanted:
                found.append(f"{story.id}: {self._ends.get(story.id)}, not {wanted}")
        return found


def _record(**message: Any) -> str:
    """Encode a message of SignalR's JSON protocol."""
    return orjson.dumps(message).decode() + "\x1e"


class Crowd(threading.Thread):
    """Runs clients on an event loop of its own."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        super().__init__(daemon=True)
        self.watchers = list(watchers)
        self.faults: list[BaseException] = []
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()

    def run(self) -> None:
        """Run until `stop`."""
        self._loop.run_until_complete(self._main())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _main(self) -> None:
        tasks = [self._loop.create_task(one.watch()) for one in self.watchers]
        waiting = self._loop.create_task(self._end.wait())
        await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, waiting):
            task.cancel()
        found = await asyncio.gather(*tasks, waiting, return_exceptions=True)
        self.faults = [
            one
            for one in found
            if isinstance(one, BaseException) and not isinstance(one, asyncio.CancelledError)
        ]

    def stop(self) -> None:
        """Hang up; may be repeated."""
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self.join(30)
            assert not self.is_alive()
        elif not self._loop.is_closed():
            self._loop.close()
