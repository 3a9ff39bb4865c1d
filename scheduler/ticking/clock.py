"""One beat's loop body: a `Clock` is asked to tick, and says how long nothing will be due."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django.db import connection

from scheduler.conf import SchedulerConf
from scheduler.ticking.changes import BATCH as CHANGES_BATCH
from scheduler.ticking.changes import take_over_changes
from scheduler.ticking.firing import fire_in_time, make_up
from scheduler.ticking.settling import Settler, start_waiting
from tasks_app.clock import monotonic
from tasks_app.db import process_name

HEARTBEAT_SECONDS: Final = 2.0
_LEAST_WAIT: Final = 0.01
_SETTLE_SECONDS: Final = 0.5

_SEEN: Final = """
INSERT INTO taskmill_beat (id, name, started_at, last_seen_at)
VALUES (%(id)s, %(name)s, taskmill_now(), taskmill_now())
ON CONFLICT (id) DO UPDATE SET last_seen_at = taskmill_now()
"""

_FORGET: Final = "DELETE FROM taskmill_beat WHERE last_seen_at < taskmill_now() - interval '1 day'"

_NEXT: Final = """
SELECT extract(epoch FROM next_at - taskmill_now())::float8 FROM taskmill_schedule
WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1
"""


@dataclass(slots=True)
class Clock:
    """Fires schedules, tick by tick; holds nothing that its death would lose.

    Attributes:
        conf: the settings.
        id: names this beat among all.
    """

    conf: SchedulerConf
    id: str = field(default_factory=lambda: f"{process_name()}:{secrets.token_hex(4)}")
    monotonic: Callable[[], float] = monotonic
    _settler: Settler = field(default_factory=Settler)
    _seen_at: float | None = None
    _settled_at: float | None = None

    def tick(self) -> float:
        """Do what is to be done, and give the seconds until something may be due.

        Raises:
            django.db.Error: the database does not answer; nothing is lost, tick again later.
        """
        self._report()
        changes = take_over_changes()
        fired = max(fire_in_time(self.conf), make_up(self.conf))
        if self._is_time("_settled_at", _SETTLE_SECONDS):
            self._settler.run_once()
            start_waiting()
        if changes == CHANGES_BATCH or fired == self.conf.batch:
            return 0.0
        return self._wait_seconds()

    def _report(self) -> None:
        is_first = self._seen_at is None
        if not self._is_time("_seen_at", HEARTBEAT_SECONDS):
            return
        with connection.cursor() as cursor:
            if is_first:
                cursor.execute(_FORGET)
            cursor.execute(_SEEN, {"id": self.id, "name": process_name()})

    def _is_time(self, name: str, seconds: float) -> bool:
        now, last = self.monotonic(), getattr(self, name)
        if last is not None and now - last < seconds:
            return False
        setattr(self, name, now)
        return True

    def _wait_seconds(self) -> float:
        with connection.cursor() as cursor:
            cursor.execute(_NEXT)
            row = cursor.fetchone()
        until = self.conf.poll_seconds if row is None else row[0]
        return min(max(until, _LEAST_WAIT), self.conf.poll_seconds)
