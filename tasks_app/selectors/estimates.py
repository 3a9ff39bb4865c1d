"""Where a ready task stands in its queue, and when it will probably start.

The estimate is what goes before the task, divided by the queue's measured pace; the dispatch loop
measures it while there is a backlog (`tasks_app.dispatch.pace`). What comes later with a higher
priority is not foreseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.db import connection

from tasks_app.selectors.shares import ahead_in_shares

POSITION_CAP: Final = 10_000
"""Tasks before it are counted so far; beyond that there is no estimate."""

PACE_SECONDS: Final = 900.0
"""A pace measured longer ago says nothing any more."""

PACED: Final = frozenset({"queue_limit", "share_limit", "rate_limit"})
"""Reasons that the measured pace accounts for; with another one the start cannot be foretold."""

_PLACE: Final = """
SELECT place.ahead, taskmill_now() + make_interval(secs => place.ahead / (
    SELECT p.starts_per_second FROM taskmill_queue_pace p
    WHERE p.queue = %(queue)s AND p.starts_per_second > 0
      AND p.measured_at > taskmill_now() - make_interval(secs => %(fresh)s::float8)))
FROM (SELECT %(ahead)s::int + count(*) AS ahead FROM (
    SELECT FROM taskmill_task d WHERE d.state = 'dispatched' AND d.queue = %(queue)s
    LIMIT %(cap)s) handed_out) place
"""


def behind_others(
    row: Mapping[str, Any], reasons: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Give the reason `behind` of a ready task that others go before, those handed out included.

    Args:
        row: of the task; `ahead` and `own_ahead` are the ready ones that surely go first, and see
            `ahead_in_shares`.
        reasons: the others for which it waits.
    """
    if row["state"] != "queued":
        return
    ahead = row["ahead"] + row["own_ahead"] + ahead_in_shares(row, cap=POSITION_CAP)
    values = {"queue": row["queue"], "ahead": ahead, "cap": POSITION_CAP}
    with connection.cursor() as cursor:
        cursor.execute(_PLACE, values | {"fresh": PACE_SECONDS})
        position, estimated_start = cursor.fetchone()
    is_held = any(one["reason"] not in PACED for one in reasons)
    if is_held or position >= POSITION_CAP:
        estimated_start = None
    if position:
        yield {
            "reason": "behind",
            "position": min(position, POSITION_CAP),
            "estimated_start": estimated_start,
        }
