"""Rescue: attempts whose worker is gone are taken away from it, carefully.

After an outage of the database every lease is over though the workers live. So nothing is rescued
before the database has answered long enough for live workers to renew, and a mass expiry gets one
more lease of patience and an alert.
"""

from __future__ import annotations

from tasks_app import transitions
from tasks_app.db import Cursor
from tasks_app.maintenance.step import StepResult, StepTurn
from tasks_app.telemetry import logger

log = logger(__name__)

LIMIT = 500
BRAKE_LEAST = 10
BRAKE_SHARE = 0.3

_LEASES = """
SELECT count(*) FILTER (WHERE lease_expires_at
                        < taskmill_now() - make_interval(secs => %(grace)s::float8)), count(*)
FROM taskmill_task WHERE state IN ('running', 'cancelling')
"""


class Rescue:
    """Takes leases that are over.

    Args:
        lease_seconds: of the workers.
        grace_seconds: beyond a lease's end, in which a live worker has surely killed the attempt.
        max_rescues: per task, before it ends as error.
    """

    name = "rescue"
    interval_seconds = 1.0

    def __init__(self, *, lease_seconds: float, grace_seconds: float, max_rescues: int) -> None:
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._max_rescues = max_rescues
        self._patient_until: float | None = None

    def run_once(self, cursor: Cursor, turn: StepTurn) -> StepResult:
        """Rescue at most five hundred attempts, or none while warming up or braking."""
        if turn.healthy_seconds < self._lease_seconds + self._grace_seconds:
            return StepResult(count=0)
        cursor.execute(_LEASES, {"grace": self._grace_seconds})
        expired, total = cursor.fetchone()
        if self._is_braking(expired, total, turn.now):
            return StepResult(count=0)
        count = (
            transitions.rescue(
                cursor, grace_seconds=self._grace_seconds, max_rescues=self._max_rescues
            )
            if expired
            else 0
        )
        if count:
            log.warning("rescued attempts of lost workers", attempts=count)
        return StepResult(count=count, is_full=count >= LIMIT)

    def _is_braking(self, expired: int, total: int, now: float) -> bool:
        if expired == 0:
            self._patient_until = None
            return False
        if self._patient_until is None and expired >= BRAKE_LEAST and expired > total * BRAKE_SHARE:
            self._patient_until = now + self._lease_seconds
            log.error(
                "many leases are over at once; waiting one more lease before rescuing",
                expired=expired,
                leases=total,
                wait_seconds=self._lease_seconds,
            )
        return self._patient_until is not None and now < self._patient_until
