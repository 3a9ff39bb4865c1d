"""The relay loop: gives every committed event its place in the feed.

`id > last` would lose events, since ids are drawn before commits. A round reads what is visible and
not in the feed yet: the ids above the highest one seen, and those below that were missing. One
snapshot sees both, so a later event of a task never comes without the earlier ones: it was written
after their commit, with a higher id. The batch is one row, written in a transaction that the
leadership fences. A transaction that stays open delays its own events alone.
Source: docs/adr/0006-feed.md.
"""

from __future__ import annotations

from typing import Any, Final

from tasks_app.conf import TasksConf, conf
from tasks_app.loops import Connection, Round, Turn
from tasks_app.relay.horizon import Horizon, OpenIds
from tasks_app.relay.resting import Resting

MOST_PER_BATCH: Final = 2000
PACE_SECONDS: Final = 0.01
"""Between two batches that are not full: what is committed meanwhile goes together."""

_RESUME: Final = """
SELECT last_sequence, seen_id, open_lows, open_highs FROM taskmill_feed
ORDER BY first_sequence DESC LIMIT 1
"""
_MARK: Final = "SELECT pg_current_xact_id()::text::bigint"
_FIND: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, ARRAY(
    SELECT id FROM (
        (SELECT id FROM taskmill_event WHERE id > %(seen)s ORDER BY id LIMIT %(limit)s)
        UNION ALL
        SELECT e.id FROM unnest(%(lows)s::bigint[], %(highs)s::bigint[]) AS o(low, high)
        CROSS JOIN LATERAL (
            SELECT id FROM taskmill_event WHERE id BETWEEN o.low AND o.high
            ORDER BY id LIMIT o.high - o.low + 1
        ) e
    ) found ORDER BY id)
"""
_APPEND: Final = """
WITH batch AS (
    INSERT INTO taskmill_feed (first_sequence, last_sequence, ids, low_id, high_id, at, seen_id,
        open_lows, open_highs)
    VALUES (%(first)s, %(last)s, %(ids)s::bigint[], %(low)s, %(high)s, taskmill_now(), %(seen)s,
        %(lows)s::bigint[], %(highs)s::bigint[])
    RETURNING last_sequence
)
SELECT pg_notify('taskmill_feed', last_sequence::text) FROM batch
"""


class RelayWork:
    """The `Work` of the relay loop."""

    name = "relay"
    channels: tuple[str, ...] = ()

    def __init__(self, settings: TasksConf) -> None:
        self._poll_seconds = settings.relay_poll_seconds
        self._token: int | None = None
        self._horizon = Horizon()
        self._resting = Resting()

    def run_once(self, turn: Turn) -> Round:
        """Append what became visible since the last round; see `Work.run_once`."""
        if turn.is_rung and self._resting.is_on:
            turn.stop.wait(PACE_SECONDS)  # the dispatcher, who is rung for too, goes first
        cursor: Any = turn.connection.cursor()
        if self._token != turn.leadership.token:
            self._horizon = _resumed(cursor)
            self._token = turn.leadership.token
        if self._horizon.is_unmarked:
            cursor.execute(_MARK)
            self._horizon = self._horizon.marked(cursor.fetchone()[0])
        cursor.execute(
            _FIND,
            {"seen": self._horizon.seen_id, "limit": MOST_PER_BATCH} | _open(self._horizon),
        )
        oldest_transaction, ids = cursor.fetchone()
        horizon = self._horizon.after(ids, oldest_transaction=oldest_transaction)
        if ids:
            _append(turn, ids, horizon)
        self._horizon = horizon
        return Round(counts={"events": len(ids)}, wait_seconds=self._wait(turn, len(ids)))

    def _wait(self, turn: Turn, count: int) -> float:
        is_quiet = not (count or self._horizon.open)
        rest = self._resting.seconds(turn.connection, is_quiet=is_quiet)
        if rest == 0 or count >= MOST_PER_BATCH:
            return 0.0
        return PACE_SECONDS if count else max(self._poll_seconds, rest or 0)

    def rest(self, connection: Connection | None) -> None:
        """Forget where the feed ends: another leader may move it; see `Work.rest`."""
        self._token = None
        self._resting.end(connection)


def _resumed(cursor: Any) -> Horizon:
    """Read the end of the feed; marks are drawn anew, which is later than needed."""
    cursor.execute(_RESUME)
    row = cursor.fetchone()
    if row is None:
        return Horizon()
    last, seen, lows, highs = row
    return Horizon(last, seen, tuple(map(OpenIds, lows, highs)))


def _append(turn: Turn, ids: list[int], horizon: Horizon) -> None:
    with turn.connection.transaction():
        cursor = turn.connection.cursor()
        turn.leadership.fence(cursor)
        cursor.execute(
            _APPEND,
            {
                "first": horizon.last_sequence - len(ids) + 1,
                "last": horizon.last_sequence,
                "ids": ids,
                "low": ids[0],
                "high": ids[-1],
                "seen": horizon.seen_id,
            }
            | _open(horizon),
        )


def _open(horizon: Horizon) -> dict[str, list[int]]:
    return {
        "lows": [one.low for one in horizon.open],
        "highs": [one.high for one in horizon.open],
    }


def make_work() -> RelayWork:
    """Build the work of this installation."""
    return RelayWork(conf())
