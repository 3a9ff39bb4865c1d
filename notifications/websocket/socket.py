"""An open WebSocket: what its client asks for, and everything that runs for it.

All of a socket lives in one task group: who reads its messages, one sender per subscription, and
who waits for the hub to end it. Whatever ends one of them ends all, frees all places in the hub,
and tells the client where to resume.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from pydantic import BaseModel

from notifications.conf import notifications_conf
from notifications.threads import in_thread
from notifications.websocket.closing import CloseCode, Goodbye, goodbye_of
from notifications.websocket.messages import (
    TASK_SOCKET_ID,
    Ack,
    Fault,
    Misunderstood,
    Ping,
    Pong,
    Request,
    Subscribe,
    Unsubscribe,
    as_sequence,
    encoded,
    read_request,
    shown_sequence,
)
from notifications.websocket.one_task import begin_task, parse_cursor, parse_task_id
from notifications.websocket.rate import MessageRate
from notifications.websocket.stream import SocketStream
from tasks_app.conf import conf
from tasks_app.platform import (
    Beginning,
    FeedReset,
    Principal,
    Subscription,
    Wanted,
    begin_watching,
    feed_hub,
)
from tasks_app.public import TaskmillError, ValidationFailed

FAULTS_MOST: Final = 10
NOTHING: Final = frozenset({"none"})
"""Types of no event: what the socket's own place in the hub wants."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[str], Awaitable[None]]


class ClientGone(ConnectionError):
    """The client has hung up."""


class EventSocket:
    """A socket of somebody who may read.

    Args:
        receive: gives the ASGI messages of the socket.
        send: sends one frame; waits while the client does not take it.

    Raises:
        RateLimited: the key has too many streams.
        FeedClosed: the process stops.
    """

    def __init__(self, principal: Principal, *, receive: Receive, send: Send) -> None:
        watch = principal.watch
        self.streams: dict[int | str, SocketStream] = {}
        self._principal = principal
        self._receive = receive
        self._plain_send = send
        self._holder = f"socket:{uuid.uuid4().hex}"
        self._key_id = principal.key_id if watch is None else watch.key_id
        self._lock = asyncio.Lock()
        self._tasks: dict[int | str, asyncio.Task[None]] = {}
        self._rate = MessageRate(notifications_conf().ws_messages_per_minute)
        self._faults = 0
        self._of_one_task = False
        self._end: asyncio.Future[Goodbye] = asyncio.get_running_loop().create_future()
        self._place = self._in_hub(
            Wanted(tenant_id=principal.tenant_id, types=NOTHING),
            after=0,
            holder=principal.key_id,
            most=conf().max_streams_per_key,
        )

    def leave(self) -> None:
        """Free every place in the hub."""
        self._place.leave()
        for stream in self.streams.values():
            stream.leave()

    async def serve(self, task: str | None = None, after: str = "") -> Goodbye | None:
        """Serve the client until one side has had enough.

        Args:
            task: the id in the address of a one-task socket.
            after: its cursor.

        Returns:
            How to close the socket; None where the client has hung up.
        """
        end: Goodbye | None = None
        self._of_one_task = task is not None
        try:
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._until_ended())
                if task is not None:
                    await self._begin_task(task, after)
                self._group.create_task(self._read())
        except* Goodbye as ends:
            [end, *_] = [one for one in ends.exceptions if isinstance(one, Goodbye)]
        except* OSError:
            end = None
        finally:
            self.leave()
        return end

    async def _until_ended(self) -> None:
        try:
            async with asyncio.timeout(conf().stream_most_seconds):
                raise await self._end
        except TimeoutError:
            raise Goodbye(CloseCode.TRY_AGAIN, "open_long_enough") from None

    def _in_hub(self, wanted: Wanted, **options: Any) -> Subscription:
        place = feed_hub().open(wanted, key_id=self._key_id, **options)
        place.on_end = partial(self._on_end, place)
        return place

    def _on_end(self, place: Subscription) -> None:
        """End the socket, whose sender may hang in a client that takes nothing."""
        if place.ended_by is None or isinstance(place.ended_by, FeedReset) or self._end.done():
            return
        self._end.set_result(goodbye_of(place.ended_by))

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                raise ClientGone
            if not self._rate.take():
                raise Goodbye(CloseCode.TOO_MANY, "too_many_messages")
            try:
                await self._answer(_request_of(message))
            except Misunderstood as error:
                await self._misunderstood(error)

    async def _answer(self, request: Request) -> None:
        if isinstance(request, Ping):
            return await self._say(Pong(id=request.id))
        if self._of_one_task:
            raise Misunderstood("this socket is for one task; only ping is answered", id=request.id)
        if isinstance(request, Unsubscribe):
            return await self._unsubscribe(request)
        try:
            await self._subscribe(request)
        except Misunderstood:
            raise
        except TaskmillError as error:
            await self._refuse(request.id, error)

    async def _subscribe(self, request: Subscribe) -> None:
        if request.id in self.streams:
            raise ValidationFailed(f"there is a subscription {request.id!r} already")
        begin = partial(
            in_thread,
            begin_watching,
            self._principal,
            tasks=request.tasks,
            tags=request.tags,
            types=request.types,
        )
        beginning = await begin(after=as_sequence(request.after))
        await self._start(request.id, beginning, begin)

    async def _begin_task(self, task: str, after: str) -> None:
        try:
            task_id, cursor = parse_task_id(task), parse_cursor(after)
            beginning = await in_thread(begin_task, self._principal, task_id, cursor)
        except TaskmillError as error:
            raise goodbye_of(error) from error
        if beginning is None:
            raise Goodbye(CloseCode.FINISHED, "finished")
        begin = partial(in_thread, begin_watching, self._principal, tasks=[task_id])
        await self._start(TASK_SOCKET_ID, beginning, begin)

    async def _start(
        self, name: int | str, beginning: Beginning, begin: Callable[..., Awaitable[Beginning]]
    ) -> None:
        stream = SocketStream(
            name,
            beginning,
            send=self._send,
            open_=self._open,
            begin=lambda cursor: begin(after=cursor),
            ends_when_finished=self._of_one_task,
        )
        self.streams[name] = stream
        await self._say(Ack(id=name, after=str(beginning.after)))
        self._tasks[name] = self._group.create_task(self._carry(stream))

    def _open(self, beginning: Beginning) -> Subscription:
        return self._in_hub(
            beginning.wanted,
            after=beginning.after,
            holder=self._holder,
            most=notifications_conf().ws_subscriptions,
        )

    async def _carry(self, stream: SocketStream) -> None:
        """Run a stream; one that cannot go on leaves the socket to the others."""
        try:
            await stream.run()
        except TaskmillError as error:
            stream.leave()
            if self._of_one_task:
                raise goodbye_of(error) from error
            self._forget(stream.name)
            await self._refuse(stream.name, error)

    async def _unsubscribe(self, request: Unsubscribe) -> None:
        task = self._tasks.get(request.id)
        if task is None:
            missing = ValidationFailed(f"there is no subscription {request.id!r}")
            await self._refuse(request.id, missing)
            return
        task.cancel()
        await asyncio.wait([task])
        stream = self._forget(request.id)
        stream.leave()
        await self._say(Ack(id=request.id, after=shown_sequence(stream.after)))

    def _forget(self, name: int | str) -> SocketStream:
        del self._tasks[name]
        return self.streams.pop(name)

    async def _misunderstood(self, error: Misunderstood) -> None:
        self._faults += 1
        await self._refuse(error.subscription_id, error)
        if self._faults >= FAULTS_MOST:
            raise Goodbye(CloseCode.BAD_MESSAGES, error.code)

    async def _refuse(self, name: int | str | None, error: TaskmillError) -> None:
        errors = error.errors if isinstance(error, ValidationFailed) else []
        fault = Fault(id=name, code=error.code, detail=error.detail, errors=errors)
        await self._say(fault)

    async def _say(self, message: BaseModel) -> None:
        await self._send([encoded(message)])

    async def _send(self, frames: Iterable[str]) -> None:
        """Send frames together, when those before them are sent."""
        async with self._lock:
            for frame in frames:
                await self._plain_send(frame)


def _request_of(message: Mapping[str, Any]) -> Request:
    """Read a client's message.

    Raises:
        Goodbye: it is binary or too large.
        Misunderstood: it is not one of the protocol.
    """
    text: str | None = message.get("text")
    if text is None:
        raise Goodbye(CloseCode.BAD_MESSAGES, "binary_message")
    if len(text.encode()) > notifications_conf().ws_message_bytes:
        raise Goodbye(CloseCode.BAD_MESSAGES, "message_too_large")
    return read_request(text)
