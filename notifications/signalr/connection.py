"""One connection of a client, from the handshake to the close message."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from notifications.conf import notifications_conf
from notifications.signalr import protocol
from notifications.signalr.protocol import Invocation, MessageType, ProtocolFault, RecordReader
from notifications.signalr.watching import Ended, WatchedTasks, closed_feed
from tasks_app.conf import conf
from tasks_app.errors import RequestError, TaskmillError, TaskNotFound
from tasks_app.platform import FeedClosed, Principal, Subscription, SubscriptionEnded

HANDSHAKE_SECONDS: Final = 15.0
SEND_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
MOST_MESSAGES: Final = 600
MESSAGES_SECONDS: Final = 60.0

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class HubConnection:
    """Serves one accepted WebSocket.

    Args:
        presence: a subscription that is never read; the hub ends it with the key or the process.
    """

    def __init__(
        self, principal: Principal, presence: Subscription, *, receive: Receive, send: Send
    ) -> None:
        self._principal = principal
        self._presence = presence
        self._receive = receive
        self._send_raw = send
        self._sending = asyncio.Lock()
        self._records = RecordReader()
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()
        self._budget_until = 0.0
        self._budget = 0

    async def serve(self) -> None:
        """Serve until the client or the server ends it, and say so to the client."""
        presence_ended = asyncio.Event()
        self._presence.on_end = presence_ended.set
        try:
            waiting = await self._shake_hands()
            async with asyncio.TaskGroup() as group:
                tasks = WatchedTasks(
                    self._principal,
                    group=group,
                    send=self._send,
                    name=f"signalr:{uuid.uuid4().hex}",
                )
                group.create_task(self._stay(presence_ended))
                group.create_task(self._mind_the_clock())
                group.create_task(self._listen(tasks, waiting))
        except* Ended as found:
            await self._close(_first(found))

    async def _shake_hands(self) -> list[bytes]:
        """Answer the handshake; gives the records that came with it."""
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                while not (records := await self._next_records()):
                    pass
            protocol.check_handshake(records[0])
        except (ProtocolFault, TimeoutError) as error:
            await self._send(protocol.handshake_answer(str(error) or "Handshake was canceled."))
            raise Ended(is_gone=True) from error
        await self._send(protocol.handshake_answer())
        return records[1:]

    async def _listen(self, tasks: WatchedTasks, records: list[bytes]) -> None:
        try:
            while True:
                for record in records:
                    self._charge()
                    await self._take(tasks, record)
                records = await self._next_records()
        except ProtocolFault as error:
            raise Ended(str(error)) from error

    async def _next_records(self) -> list[bytes]:
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Ended(is_gone=True)
        self._heard_at = self._clock()
        text = message.get("text")
        return self._records.feed(message.get("bytes") or b"" if text is None else text.encode())

    def _charge(self) -> None:
        now = self._clock()
        if now >= self._budget_until:
            self._budget_until, self._budget = now + MESSAGES_SECONDS, MOST_MESSAGES
        self._budget -= 1
        if self._budget < 0:
            raise Ended(f"more than {MOST_MESSAGES} messages a minute")

    async def _take(self, tasks: WatchedTasks, record: bytes) -> None:
        """Carry out a message. Parts of refused streams and unknown types have no answer."""
        kind, invocation = protocol.read_message(record)
        if kind == MessageType.CLOSE:
            raise Ended
        if invocation is None:
            return
        try:
            begun = await self._invoke(tasks, invocation)
        except TaskmillError as error:
            await self._complete(invocation, f"{error.code}: {error.detail}")
        else:
            await self._complete(invocation)
            if begun is not None:
                await begun()

    async def _invoke(
        self, tasks: WatchedTasks, invocation: Invocation
    ) -> Callable[[], Awaitable[None]] | None:
        """Call a method; gives what follows its completion."""
        if invocation.is_streaming:
            raise RequestError("this hub has no streams")
        method = invocation.target.lower()
        if method not in {"subscribetotask", "unsubscribefromtask"}:
            raise RequestError(f"there is no method {invocation.target[:60]}")
        task_id = _task_id(invocation)
        if method == "unsubscribefromtask":
            await tasks.stop(task_id)
            return None
        begin = await tasks.look_up(task_id)
        return lambda: tasks.start(task_id, begin)

    async def _complete(self, invocation: Invocation, error: str = "") -> None:
        if invocation.invocation_id is not None:
            await self._send(protocol.completion(invocation.invocation_id, error))

    async def _stay(self, presence_ended: asyncio.Event) -> None:
        await presence_ended.wait()
        try:
            await self._presence.next(0)
        except FeedClosed as error:
            raise closed_feed() from error
        except SubscriptionEnded as error:
            raise Ended(error.detail, may_reconnect=True) from error

    async def _mind_the_clock(self) -> None:
        """Ping; end a connection whose client is silent, or that is old."""
        keepalive = notifications_conf().signalr_keepalive_seconds
        patience = notifications_conf().signalr_client_timeout_seconds
        ping_at = self._clock() + keepalive
        old_at = self._clock() + conf().stream_most_seconds
        while True:
            now = self._clock()
            if now >= self._heard_at + patience:
                raise Ended(f"nothing was heard for {patience:g} s", may_reconnect=True)
            if now >= old_at:
                raise Ended(may_reconnect=True)
            if now >= ping_at:
                await self._send(protocol.PING)
                ping_at = self._clock() + keepalive
            await asyncio.sleep(min(ping_at, old_at, self._heard_at + patience) - self._clock())

    async def _send(self, text: str) -> None:
        """Send a message whole.

        Raises:
            Ended: the client is gone, or takes nothing.
        """
        async with self._sending:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._send_raw({"type": "websocket.send", "text": text})
            except TimeoutError as error:
                raise Ended("this client takes no messages", may_reconnect=True) from error
            except OSError as error:
                raise Ended(is_gone=True) from error

    async def _close(self, ended: Ended) -> None:
        """Say how it ends, as far as the client still takes it."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if not ended.is_gone:
                    last = protocol.closing(ended.error, may_reconnect=ended.may_reconnect)
                    await self._send_raw({"type": "websocket.send", "text": last})
                await self._send_raw({"type": "websocket.close", "code": 1000})
        except (TimeoutError, OSError, RuntimeError):
            return  # nobody is there


def _task_id(invocation: Invocation) -> uuid.UUID:
    text = invocation.arguments[0] if len(invocation.arguments) == 1 else None
    if not isinstance(text, str):
        raise RequestError(f"{invocation.target} takes one argument, the id of a task")
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise TaskNotFound from error


def _first(found: BaseExceptionGroup[Ended]) -> Ended:
    """Give the end that came first."""
    one: BaseException = found
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    assert isinstance(one, Ended)  # noqa: S101 - the group holds nothing else
    return one
