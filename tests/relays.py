"""The relay in tests: a sequencer under the test's hand, and what it made of the events."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from tasks_app import leadership
from tasks_app.conf import conf
from tasks_app.db import connect
from tasks_app.leadership import Leadership
from tasks_app.loops import Health, Round, Stop, Turn
from tasks_app.relay.loop import RelayWork


class Relay:
    """A relay work with its own connection, run round by round."""

    def __init__(self) -> None:
        self.connection = connect("relay")
        self.work = RelayWork(conf())
        self.stop = Stop()
        self.holder = uuid.uuid4().hex
        self.lead: Leadership | None = None

    def take(self, *, lease_seconds: float = 60.0) -> bool:
        """Try to take the leadership."""
        self.lead = leadership.hold(
            self.connection.cursor(), loop="relay", holder=self.holder, lease_seconds=lease_seconds
        )
        return self.lead is not None

    def round(self) -> Round:
        """Run one round with the leadership last taken."""
        if self.lead is None:
            assert self.take()
        assert self.lead is not None
        return self.work.run_once(
            Turn(
                connection=self.connection,
                leadership=self.lead,
                stop=self.stop,
                health=Health(5.0),
            )
        )

    def drain(self) -> None:
        """Run rounds until one finds nothing."""
        while self.round().counts["events"]:
            pass

    def close(self) -> None:
        """Free what it holds and the leadership."""
        if self.lead is not None and not self.connection.broken:
            self.lead.release(self.connection.cursor())
        self.connection.close()
        self.stop.close()


@contextmanager
def relay() -> Iterator[Relay]:
    """A relay for the duration."""
    one = Relay()
    try:
        yield one
    finally:
        one.close()


def feed_rows() -> list[tuple[int, uuid.UUID, int]]:
    """Give `(sequence, task id, seq)` of all that is in the feed, in its order."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT f.first_sequence + i.place - 1, e.task_id, e.seq FROM taskmill_feed f"
            " CROSS JOIN LATERAL unnest(f.ids) WITH ORDINALITY AS i(id, place)"
            " JOIN taskmill_event e ON e.id = i.id ORDER BY 1"
        )
        return [tuple(row) for row in cursor.fetchall()]


def event_count() -> int:
    """Give how many events are committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM taskmill_event")
        return int(cursor.fetchone()[0])
