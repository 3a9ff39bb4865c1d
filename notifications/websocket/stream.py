"""One subscription on a socket: its snapshots, its events, and how far it has come."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from notifications.websocket.closing import CloseCode, Goodbye, goodbye_of
from notifications.websocket.messages import delivery
from tasks_app.platform import (
    FINISHED,
    Beginning,
    FeedEvent,
    FeedReset,
    Subscription,
    SubscriptionEnded,
    task_snapshot,
)
from tasks_app.rest import to_json

QUIET_SECONDS: Final = 60.0

Send = Callable[[Iterable[str]], Awaitable[None]]
Open = Callable[[Beginning], Subscription]
Begin = Callable[[int], Awaitable[Beginning]]


class SocketStream:
    """Sends what one subscription is given, until it is cancelled or its socket has to end.

    Args:
        name: the id that the client gave it.
        open_: opens a place in the hub.
        begin: begins anew where the cursor has left the feed.
        ends_when_finished: it is the one task of its socket.

    Raises:
        RateLimited: there are too many on the socket.
        FeedClosed: the process stops.
    """

    def __init__(
        self,
        name: int | str,
        beginning: Beginning,
        *,
        send: Send,
        open_: Open,
        begin: Begin,
        ends_when_finished: bool = False,
    ) -> None:
        self.name = name
        self.after: int | None = None if beginning.snapshots else beginning.after
        self._json_name = to_json(name)
        self._beginning = beginning
        self._send = send
        self._open = open_
        self._begin = begin
        self._ends_when_finished = ends_when_finished
        self._seen: dict[uuid.UUID | None, int] = {}
        self._subscription = open_(beginning)

    async def run(self) -> None:
        """Send snapshots and events.

        Raises:
            Goodbye: the socket has to end.
            RequestError: it cannot begin anew; what it named is gone.
        """
        try:
            while True:
                try:
                    async with self._subscription as subscription:
                        await self._show_beginning()
                        await self._follow(subscription)
                except FeedReset:
                    self._beginning = await self._begin(subscription.cursor)
                    self._subscription = self._open(self._beginning)
        except SubscriptionEnded as error:
            raise goodbye_of(error) from error

    async def _show_beginning(self) -> None:
        beginning = self._beginning
        self._seen = {row["id"]: row["event_seq"] for row in beginning.snapshots}
        if beginning.is_reset:
            await self._deliver(to_json(_reset(beginning.after)))
        for row in beginning.snapshots:
            await self._deliver(to_json(task_snapshot(row, beginning.after)))
        self.after = beginning.after
        if any(row["state"] in FINISHED for row in beginning.snapshots):
            self._finish()

    async def _follow(self, subscription: Subscription) -> None:
        while True:
            batch = await subscription.next(QUIET_SECONDS)
            frames = batch.form(self._json_name, self._frames)
            await self._send(self._unseen(batch.events, frames))
            if any(event.is_final for event in batch.events):
                self._finish()
            self.after = subscription.cursor

    def _frames(self, events: Sequence[FeedEvent]) -> list[str]:
        return [delivery(self._json_name, event.json) for event in events]

    def _unseen(self, events: Sequence[FeedEvent], frames: Sequence[str]) -> Iterator[str]:
        """Give the frames of events that no snapshot shows, up to what ends the socket.

        What was given before counts as sent when the next is asked for.
        """
        for event, frame in zip(events, frames, strict=True):
            if event.seq > self._seen.get(event.task_id, 0):
                yield frame
            self.after = event.sequence
            if event.is_final and self._ends_when_finished:
                return

    async def _deliver(self, event: bytes) -> None:
        await self._send([delivery(self._json_name, event)])

    def _finish(self) -> None:
        if self._ends_when_finished:
            raise Goodbye(CloseCode.FINISHED, "finished")

    def leave(self) -> None:
        """Free the place in the hub of a stream that never ran, or no more; may be repeated."""
        self._subscription.leave()


def _reset(sequence: int) -> Mapping[str, Any]:
    """Give the event that tells a client to forget what it has."""
    return {
        "specversion": "1.0",
        "id": f"stream.{sequence}.reset",
        "source": "/ws/v1/events",
        "type": "stream.reset",
        "datacontenttype": "application/json",
        "sequence": sequence,
        "data": {"reason": "cursor_not_in_feed"},
    }
