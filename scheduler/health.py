"""The clock as a part of the platform's health.

It is missing only where something would be due: an installation without schedules needs no beat.
Readiness (`/readyz`) never depends on it, since the API takes tasks and schedules without one.
"""

from __future__ import annotations

from typing import Final

from scheduler.selectors import check_beat
from tasks_app.platform import HealthPart, Part


def check_beat_part() -> Part:
    """Ask whether schedules fire.

    Raises:
        django.db.Error: the database does not answer.
    """
    found = check_beat()
    is_ok = found.is_ok or not found.is_needed
    detail = found.detail
    if is_ok and detail:
        detail = "no beat runs; nothing is on the clock"
    return Part(is_ok=is_ok, detail=detail, facts=found.facts)


BEAT: Final = HealthPart(
    name="beat",
    check=check_beat_part,
    fix="start a beat: celery -A config beat --pidfile= (see Procfile)",
)
