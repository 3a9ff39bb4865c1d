"""Server-sent events: what a stream sends, from the snapshot to its end.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; docs/adr/0006-feed.md.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks_app.api.renderers import to_json
from tasks_app.conf import conf
from tasks_app.errors import RateLimited
from tasks_app.feed import Batch, FeedEvent, Subscription, SubscriptionEnded, Wanted, feed_hub
from tasks_app.metrics import connection_open
from tasks_app.services.watching import task_snapshot
from tasks_app.states import FINISHED

RETRY: Final = b"retry: 2000\n\n"
HEARTBEAT: Final = b":\n\n"
STUCK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a stream begins.

    Attributes:
        after: the sequence that what follows comes after; read before the snapshots were.
        snapshots: task rows to show first; none where the client resumes.
        is_reset: the client's cursor was too old.
        ends_when_finished: it is the stream of one task.
        holder: who is charged with the stream.
        key_id: the API key that the stream ends with.
    """

    wanted: Wanted
    after: int
    holder: str
    key_id: str
    snapshots: Sequence[Mapping[str, Any]] = ()
    is_reset: bool = False
    ends_when_finished: bool = False


class EventStream:
    """The body of one stream."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._ended = asyncio.Event()
        self._seen: dict[uuid.UUID | None, int] = {
            row["id"]: row["event_seq"] for row in opening.snapshots
        }

    async def stuck(self) -> None:
        """Return when the stream is over and its client does not even take the end."""
        await self._ended.wait()
        await asyncio.sleep(STUCK_SECONDS)

    async def body(self) -> AsyncIterator[bytes]:
        """Give the bytes to send, as they come."""
        opening = self._opening
        beginning = RETRY + b"".join(self._beginning())
        if opening.ends_when_finished and any(
            row["state"] in FINISHED for row in opening.snapshots
        ):
            yield beginning
            return
        try:
            async with self._subscription() as subscription:
                with connection_open("sse"):
                    yield beginning
                    async for chunk in self._live(subscription):
                        yield chunk
        except (SubscriptionEnded, RateLimited):
            yield b": resume from the last id\n\n"

    def _subscription(self) -> Subscription:
        subscription = feed_hub().open(
            self._opening.wanted,
            after=self._opening.after,
            holder=self._opening.holder,
            most=conf().max_streams_per_key,
            key_id=self._opening.key_id,
        )
        subscription.on_end = self._ended.set
        return subscription

    def _beginning(self) -> list[bytes]:
        opening = self._opening
        parts = []
        if opening.is_reset:
            data = {"reason": "cursor_not_in_feed", "sequence": opening.after}
            parts.append(frame("stream.reset", to_json(data), None))
        last = len(opening.snapshots) - 1
        for place, row in enumerate(opening.snapshots):
            # A client that is cut off among several snapshots must not resume behind them.
            sequence = opening.after if place == last else None
            parts.append(
                frame("task.snapshot", to_json(task_snapshot(row, opening.after)), sequence)
            )
        return parts

    async def _live(self, subscription: Subscription) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        heartbeat, until = conf().stream_heartbeat_seconds, clock() + conf().stream_most_seconds
        while (left := until - clock()) > 0:
            batch = await subscription.next(min(heartbeat, left))
            chunk, is_final = self._encoded(batch)
            yield chunk or HEARTBEAT
            if is_final:
                return

    def _encoded(self, batch: Batch) -> tuple[bytes, bool]:
        """Give the bytes of events that no snapshot shows, up to a final one that ends all."""
        seen = self._seen
        shown: Sequence[FeedEvent] = batch.events
        if seen:
            shown = [event for event in shown if event.seq > seen.get(event.task_id, 0)]
        is_final = False
        if self._opening.ends_when_finished:
            finals = [place for place, event in enumerate(shown, 1) if event.is_final]
            is_final = bool(finals)
            shown = shown[: finals[0]] if finals else shown
        if len(shown) == len(batch.events):
            return batch.form("sse", _frames), is_final
        return _frames(shown), is_final


def _frames(events: Sequence[FeedEvent]) -> bytes:
    return b"".join(frame(event.type, event.json, event.sequence) for event in events)


def frame(kind: str, data: bytes, sequence: int | None) -> bytes:
    """Give one event; `data` is JSON on one line."""
    place = b"" if sequence is None else b"id: %d\n" % sequence
    return b"%sevent: %s\ndata: %s\n\n" % (place, kind.encode(), data)
