"""Acknowledging messages of AMQP several at once.

Each acknowledgement is a frame to write, and to a quorum queue one more entry of its log. Where
messages follow one another these were a third of what a worker's main process did per task, and a
quarter of what the broker did. So they are gathered for a moment and said as "all up to this one".

That is only true while nothing older is still wanted by somebody: what came is therefore kept in
its order, with what is not the platform's, and older messages that are not acknowledged have the
younger ones acknowledged each by itself. Nothing is lost where a worker dies meanwhile: a hint that
comes again is dropped by its claim.
Source: docs/adr/0019-bundles.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from kombu.asynchronous import get_event_loop
from kombu.transport.pyamqp import Channel

SECONDS: Final = 0.001
"""How long an acknowledgement waits for others at most."""

MOST: Final = 50
"""How many wait where the broker gives messages without counting."""

Ack = Callable[[Any, Any], None]
"""Acknowledges a message, as Celery calls it: with a logger and the errors of the connection."""


class Acks:
    """The messages of the channel that a worker consumes from. Touched by Celery's loop alone."""

    def __init__(self) -> None:
        self._channel: Any = None
        self._most = MOST
        self._open: deque[Any] = deque()
        self._most_open = MOST
        self._wanted: dict[int, Any] = {}
        self._how: tuple[Any, Any] = (None, ())
        self._is_due = False

    def begin(self, prefetch_count: int) -> None:
        """Start with a connection.

        Args:
            prefetch_count: how many messages the broker gives without an acknowledgement, 0 for
                any number. Half of them wait for theirs, so that the broker never waits.
        """
        self._most = min(MOST, max(1, prefetch_count // 2)) if prefetch_count else MOST

    def note(self, message: Any) -> None:
        """Note every message that comes, whoever it is for."""
        if message.channel is not self._channel:
            self._channel = message.channel
            self._open.clear()
            self._wanted.clear()
            self._most_open = MOST
        if isinstance(message.channel, Channel):
            self._open.append(message)
            if len(self._open) > self._most_open:
                self._forget_closed()
                self._most_open = max(MOST, 2 * len(self._open))

    def of(self, message: Any, ack: Ack) -> Ack:
        """Give what acknowledges a message in place of Celery's own."""
        if not isinstance(message.channel, Channel):
            return ack

        def settle(logger: Any, errors: Any) -> None:
            if message.channel is not self._channel:
                ack(logger, errors)
                return
            self._how = logger, errors
            self._wanted[message.delivery_tag] = message
            if len(self._wanted) >= self._most:
                self._say()
            else:
                self._say_later()

        return settle

    def _say_later(self) -> None:
        hub = get_event_loop()
        if hub is None:
            self._say()
        elif not self._is_due:
            self._is_due = True
            hub.call_later(SECONDS, self._say_what_waits)

    def _say_what_waits(self) -> None:
        self._is_due = False
        self._say()

    def _say(self) -> None:
        """Acknowledge what is wanted. A lost connection has the broker give all of it again."""
        if self._wanted and self._channel.is_open:
            last = self._take_oldest()
            if last is not None:
                last.ack_log_error(*self._how, multiple=True)
            if self._wanted:
                self._say_each()
        self._wanted.clear()

    def _take_oldest(self) -> Any:
        """Forget the oldest messages up to the first that is open; give the last to be said."""
        last = None
        while self._open and (
            self._open[0].acknowledged or self._open[0].delivery_tag in self._wanted
        ):
            message = self._open.popleft()
            last = self._wanted.pop(message.delivery_tag, last)
        return last

    def _say_each(self) -> None:
        for message in self._wanted.values():
            message.ack_log_error(*self._how)
        self._forget_closed()

    def _forget_closed(self) -> None:
        self._open = deque(one for one in self._open if not one.acknowledged)


acks = Acks()
