"""Which queues keep slots free: those that more than one tenant used lately.

However fair the order, whoever comes to a queue of which one tenant fills every slot waits until
one of its tasks ends. So while tenants share a queue no one of them may have all of it. Until when
is in the queue's row: another leader goes on with it, and who asks why a task waits is told. Where
tasks are so short that a slot is free in a moment anyway, none is kept: that costs more than the
wait, as each slot of the noisy tenant then waits for the next round. Source:
docs/adr/0017-fairness.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tasks_app.clock import monotonic
from tasks_app.db import Cursor
from tasks_app.dispatch.backlog import ReadyQueue
from tasks_app.selectors.canaries import CANARY_TENANT

KEEP_UP_TO_PER_SLOT: Final = 14.0
"""Slots that take more tasks a second than that are not kept: of tasks of 30 ms, a third of the
noisy tenant's rate would be lost for 20 ms of the other's wait; of 100 ms it is a fifth for 40."""

KEEP_SECONDS: Final = 600.0
NOTE_SECONDS: Final = 30.0
"""The row is written so often at most, while tenants go on sharing."""

ASK_SECONDS: Final = 1.0
"""Of tenants that were no two, or a row that was locked, is asked again after so long."""

_NOTE: Final = """
UPDATE taskmill_queue SET shared_until = taskmill_now() + make_interval(secs => %(keep)s::float8)
WHERE name = (SELECT name FROM taskmill_queue WHERE name = %(queue)s FOR UPDATE SKIP LOCKED)
  AND (SELECT count(*) FROM taskmill_tenant
       WHERE id = ANY(%(tenants)s) AND slug <> %(canary)s) > 1
"""
_FORGET: Final = """
UPDATE taskmill_queue SET shared_until = NULL
WHERE name = (SELECT name FROM taskmill_queue WHERE name = %(queue)s FOR UPDATE SKIP LOCKED)
"""


class Keeping:
    """Notes in the rows of queues until when they keep slots free.

    Args:
        is_on: whether the platform keeps any.
    """

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._note_at: dict[str, float] = {}

    def note(
        self, cursor: Cursor, ready: Iterable[ReadyQueue], *, is_fast: Callable[[ReadyQueue], bool]
    ) -> None:
        """Look at the queues of a round; outside of its transaction, as these rows are edited."""
        for queue in ready:
            if not self._is_on or queue.max_share is not None:
                continue
            if is_fast(queue):
                if queue.is_keeping:
                    cursor.execute(_FORGET, {"queue": queue.name})
                    self._note_at.pop(queue.name, None)
            elif len(queue.tenants) > 1 and monotonic() >= self._note_at.get(queue.name, 0.0):
                self._note(cursor, queue)

    def _note(self, cursor: Cursor, queue: ReadyQueue) -> None:
        values = {"queue": queue.name, "tenants": list(queue.tenants), "keep": KEEP_SECONDS}
        cursor.execute(_NOTE, values | {"canary": CANARY_TENANT})
        seconds = NOTE_SECONDS if cursor.rowcount else ASK_SECONDS
        self._note_at[queue.name] = monotonic() + seconds

    def forget(self) -> None:
        """Begin anew: another process led meanwhile."""
        self._note_at.clear()
