"""Removes what has expired beside tasks: due instants, numbers of old hours, sessions.

Finished tasks, feed, idempotency records and deliveries are pruned by the engine all day long; see
docs/adr/0011-schedules.md. Nothing here touches a row that anything may still need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.db import connection

BATCH: Final = 1000

_FIRINGS: Final = """
DELETE FROM taskmill_firing WHERE id IN (
    SELECT f.id FROM taskmill_firing f JOIN taskmill_schedule s ON s.id = f.schedule_id
    WHERE f.recorded_at < taskmill_now() - make_interval(secs => %(age)s) AND NOT f.is_open
      AND f.outcome NOT IN ('waiting', 'publishing')
      AND (s.last_nominal_at IS NULL OR f.nominal_at < s.last_nominal_at OR f.is_manual)
    ORDER BY f.recorded_at LIMIT %(limit)s FOR UPDATE OF f SKIP LOCKED)
"""

_HOURS: Final = """
DELETE FROM taskmill_hour WHERE id IN (
    SELECT id FROM taskmill_hour WHERE hour < taskmill_now() - make_interval(secs => %(age)s)
    ORDER BY hour LIMIT %(limit)s)
"""

_SESSIONS: Final = """
DELETE FROM django_session WHERE session_key IN (
    SELECT session_key FROM django_session
    WHERE expire_date < taskmill_now() - make_interval(secs => %(age)s)
    ORDER BY expire_date LIMIT %(limit)s)
"""


def remove_expired(
    *, firing_days: float, history_days: float, go_on: Callable[[], None]
) -> dict[str, int]:
    """Remove what has expired, `BATCH` rows a statement; gives how many rows of each kind.

    A schedule keeps its latest instant, however old.

    Args:
        firing_days: how long due instants are kept.
        history_days: how long the numbers of an hour are kept.
        go_on: called between batches; raises in order to stop.

    Concurrency: each batch commits by itself; may be repeated and may run twice at a time.
    """
    kinds = {
        "firings": (_FIRINGS, firing_days * 86_400),
        "hours": (_HOURS, history_days * 86_400),
        "sessions": (_SESSIONS, 0.0),
    }
    return {
        name: _remove(statement, age_seconds, go_on)
        for name, (statement, age_seconds) in kinds.items()
    }


def _remove(statement: str, age_seconds: float, go_on: Callable[[], None]) -> int:
    count = 0
    while True:
        go_on()
        with connection.cursor() as cursor:
            cursor.execute(statement, {"age": age_seconds, "limit": BATCH})
            removed = int(cursor.rowcount)
        count += removed
        if removed < BATCH:
            return count
