"""What one connection watches: a coroutine per task, from where it stands to its end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from notifications.conf import notifications_conf
from notifications.signalr.protocol import invocation
from notifications.threads import in_thread
from tasks_app.errors import RateLimited, StoreUnavailable, TaskNotFound
from tasks_app.platform import (
    FINAL_EVENTS,
    FINISHED,
    Beginning,
    FeedClosed,
    FeedEvent,
    Principal,
    SubscriptionEnded,
    begin_watching,
    feed_hub,
    task_snapshot,
)
from tasks_app.public import EventType, State

TYPES: Final = frozenset({EventType.PROGRESS.value, *FINAL_EVENTS})
NEXT_SECONDS: Final = 600.0
_CANCELLED: Final = {"code": "CANCELLED", "message": "The task was cancelled."}


class Ended(Exception):
    """The connection is to be closed.

    Args:
        error: what the client is told; "" for nothing.
        may_reconnect: whether a stock client should come back by itself.
        is_gone: nobody is there to be told.
    """

    def __init__(
        self, error: str = "", *, may_reconnect: bool = False, is_gone: bool = False
    ) -> None:
        super().__init__(error)
        self.error = error
        self.may_reconnect = may_reconnect
        self.is_gone = is_gone


class WatchedTasks:
    """The tasks of one connection.

    Args:
        group: where the coroutines run; one that ends the connection raises `Ended` there.
        send: sends an encoded message to the client.
        name: tells this connection's subscriptions from others' in the hub.
    """

    def __init__(
        self,
        principal: Principal,
        *,
        group: asyncio.TaskGroup,
        send: Callable[[str], Awaitable[None]],
        name: str,
    ) -> None:
        self._principal = principal
        self._group = group
        self._send = send
        self._name = name
        self._running: dict[uuid.UUID, asyncio.Task[None]] = {}

    async def look_up(self, task_id: uuid.UUID) -> Beginning:
        """Give where the view of a task begins.

        Raises:
            RateLimited: the connection watches as many as it may.
            TaskNotFound, ValidationFailed: the principal may not watch it.
            StoreUnavailable: the database does not answer.
        """
        most = notifications_conf().signalr_max_tasks
        if len(self._running) >= most and task_id not in self._running:
            raise RateLimited(f"this connection watches {most} unfinished tasks, the limit")
        return await in_thread(begin_watching, self._principal, tasks=[task_id], types=TYPES)

    async def start(self, task_id: uuid.UUID, begin: Beginning) -> None:
        """Watch a task from its beginning on; one that is watched begins anew."""
        await self.stop(task_id)
        running = self._group.create_task(self._watch(task_id, begin))
        self._running[task_id] = running
        running.add_done_callback(lambda done: self._forget(task_id, done))

    async def stop(self, task_id: uuid.UUID) -> None:
        """Send nothing more of a task."""
        running = self._running.pop(task_id, None)
        if running is not None:
            running.cancel()
            await asyncio.wait([running])

    def _forget(self, task_id: uuid.UUID, done: asyncio.Task[None]) -> None:
        if self._running.get(task_id) is done:
            del self._running[task_id]

    async def _watch(self, task_id: uuid.UUID, begin: Beginning) -> None:
        try:
            await self._tell(task_id, begin)
        except FeedClosed as error:
            raise closed_feed() from error
        except (SubscriptionEnded, StoreUnavailable) as error:
            raise Ended(error.detail, may_reconnect=True) from error

    async def _tell(self, task_id: uuid.UUID, begin: Beginning) -> None:
        row = begin.snapshots[0]
        await self._send(message_of_snapshot(row))
        if row["state"] in FINISHED:
            return
        subscription = feed_hub().open(
            begin.wanted,
            after=begin.after,
            holder=self._name,
            most=notifications_conf().signalr_max_tasks,
            key_id=key_of(self._principal),
        )
        async with subscription:
            while True:
                for event in (await subscription.next(NEXT_SECONDS)).events:
                    if event.seq > row["event_seq"]:
                        await self._send(await self._message(task_id, event))
                        if event.is_final:
                            return

    async def _message(self, task_id: uuid.UUID, event: FeedEvent) -> str:
        data = orjson.loads(event.json)["data"]
        if event.type == EventType.PROGRESS:
            return _progress(task_id, data["progress"], data["message"])
        if event.type == EventType.SUCCEEDED:
            return _completed(task_id, await self._result(task_id))
        return _failed(task_id, data)

    async def _result(self, task_id: uuid.UUID) -> Any:
        """Give what a succeeded task returned; None if it was purged since."""
        try:
            begin = await in_thread(begin_watching, self._principal, tasks=[task_id])
        except TaskNotFound:
            return None
        return task_snapshot(begin.snapshots[0], 0)["data"]["result"]


def key_of(principal: Principal) -> str:
    """Give the id of the API key that a connection ends with."""
    return principal.key_id if principal.watch is None else principal.watch.key_id


def closed_feed() -> Ended:
    """Give the end for a closed feed: a stopping process sends clients on, a revoked key away."""
    if feed_hub().is_closed:
        return Ended(may_reconnect=True)
    return Ended("the API key of this connection is not in force any more")


def message_of_snapshot(row: Mapping[str, Any]) -> str:
    """Give the message that shows a task as its row stands."""
    data = task_snapshot(row, 0)["data"]
    if row["state"] not in FINISHED:
        return _progress(row["id"], data["progress"], data["progress_message"])
    if row["state"] == State.SUCCESS:
        return _completed(row["id"], data["result"])
    return _failed(row["id"], data)


def _progress(task_id: uuid.UUID, progress: float, message: str) -> str:
    fields = {"taskId": str(task_id), "progress": progress, "message": message}
    return invocation("TaskProgress", fields)


def _completed(task_id: uuid.UUID, result: Any) -> str:
    return invocation("TaskCompleted", {"taskId": str(task_id), "result": result})


def _failed(task_id: uuid.UUID, data: Mapping[str, Any]) -> str:
    """Give the message of a task that did not succeed; `data` has its status, and mostly why."""
    error = {**_CANCELLED, **(data.get("error") or {}), "status": data["status"]}
    return invocation("TaskFailed", {"taskId": str(task_id), "error": error})
