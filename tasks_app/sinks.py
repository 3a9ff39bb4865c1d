"""Sinks: loops of the engine that hand the feed to a receiver, each from its own stored cursor.

A sink that is down delays only itself. What it does is at least once: after a crash it goes on from
the cursor, which moves in a transaction that the leadership fences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tasks_app.db import Cursor
from tasks_app.feed import FeedEvent, feed_bounds, read_feed
from tasks_app.loops import Connection, Round, Turn
from tasks_app.telemetry import logger

log = logger(__name__)

PAGE_EVENTS: Final = 200
POLL_SECONDS: Final = 1.0
PASS_OVER_SECONDS: Final = 0.1

_POSITION: Final = "SELECT sequence FROM taskmill_feed_cursor WHERE sink = %(sink)s"
_MOVE: Final = """
INSERT INTO taskmill_feed_cursor AS c (sink, sequence, updated_at)
VALUES (%(sink)s, %(sequence)s, taskmill_now())
ON CONFLICT (sink) DO UPDATE SET sequence = excluded.sequence, updated_at = excluded.updated_at
"""


class FeedSink:
    """What a sink does with a page of events; override one of the two."""

    name: str

    def is_listening(self, cursor: Cursor) -> bool:  # noqa: ARG002 - the port's form
        """Say whether anybody may want an event that is in the feed by now; where nobody does, the
        cursor moves on and nothing is read.
        """
        return True

    def deliver(self, events: Sequence[FeedEvent]) -> int:
        """Send events to a receiver outside this platform, outside any transaction.

        Args:
            events: of all tenants, in feed order.

        Returns:
            How many of them, from the first on, the receiver has now.

        Raises:
            InfrastructureError: it does not answer; the page is given again, with backoff.
        """
        return len(events)

    def record(self, cursor: Cursor, events: Sequence[FeedEvent]) -> None:
        """Write what follows from events, in the transaction that moves the cursor: exactly once.

        Args:
            events: those that `deliver` has counted.
        """

    def close(self) -> None:
        """Free what the sink holds; called when another engine may lead it."""


class SinkWork:
    """The `Work` that feeds a sink. A sink that is new begins with the oldest event kept."""

    channels: tuple[str, ...] = ("taskmill_feed",)

    def __init__(self, sink: FeedSink) -> None:
        self.name = sink.name
        self._sink = sink
        self._token: int | None = None
        self._position = 0

    def run_once(self, turn: Turn) -> Round:
        """Hand on one page; see `Work.run_once`."""
        cursor: Any = turn.connection.cursor()
        if self._token != turn.leadership.token:
            self._position = self._resumed(cursor)
            self._token = turn.leadership.token
        bounds = feed_bounds(cursor)
        if not bounds.has(self._position):
            log.error(
                "the sink was away for longer than the feed is kept; events are lost to it",
                sink=self.name,
                position=self._position,
                goes_on_at=bounds.first,
            )
            self._position = bounds.first - 1
        if bounds.last <= self._position:
            return Round(wait_seconds=POLL_SECONDS)
        if not self._sink.is_listening(cursor):
            return self._pass_over(turn, bounds.last)
        until = min(bounds.last, self._position + PAGE_EVENTS)
        events = read_feed(cursor, after=self._position, until=until)
        count = self._sink.deliver(events)
        self._move(turn, events[:count], until if count == len(events) else None)
        is_stuck = count == 0 and bool(events)
        return Round(counts={"events": count}, wait_seconds=POLL_SECONDS if is_stuck else 0.0)

    def _pass_over(self, turn: Turn, until: int) -> Round:
        """Move on without reading, seldom: while nobody listens there is nothing to be late for."""
        count = until - self._position
        self._move(turn, [], until)
        turn.stop.wait(PASS_OVER_SECONDS)
        return Round(counts={"passed_over": count}, wait_seconds=POLL_SECONDS)

    def _resumed(self, cursor: Cursor) -> int:
        cursor.execute(_POSITION, {"sink": self.name})
        row = cursor.fetchone()
        return feed_bounds(cursor).first - 1 if row is None else int(row[0])

    def _move(self, turn: Turn, events: Sequence[FeedEvent], until: int | None) -> None:
        """Store that the receiver has these events, or all up to `until`."""
        position = until if until is not None else max((one.sequence for one in events), default=0)
        position = max(position, self._position)
        with turn.connection.transaction():
            cursor = turn.connection.cursor()
            turn.leadership.fence(cursor)
            self._sink.record(cursor, events)
            cursor.execute(_MOVE, {"sink": self.name, "sequence": position})
        self._position = position

    def rest(self, _connection: Connection | None) -> None:
        """Forget the position: another leader may move it; see `Work.rest`."""
        self._token = None
        self._sink.close()
