"""The events of schedules: parts of the statements by which an instant is fired or missed.

Only a schedule of a tenant has events: one of a plain Celery task is nobody's, its instants are in
its history. Every part reads `changed`, rows of `taskmill_firing` that the statement has written,
while the caller's transaction holds the schedule.
"""

from __future__ import annotations

from typing import Final

from tasks_app.platform import PlatformEventType, platform_event

_COLUMNS: Final = (
    "schedule_id",
    "nominal_at",
    "covers_until",
    "outcome",
    "reason",
    "task_id",
    "is_manual",
    "actor",
)
RETURNING: Final = ", ".join(f"f.{name}" for name in _COLUMNS)
"""What `changed` has to return, of `taskmill_firing f`."""

_ROWS: Final = """changed m JOIN taskmill_schedule s ON s.id = m.schedule_id
        WHERE m.outcome = '{outcome}' AND s.tenant_id IS NOT NULL ORDER BY m.nominal_at, s.id"""

FIRED: Final = platform_event(
    PlatformEventType.SCHEDULE_FIRED,
    subject="s.id::text",
    tenant="s.tenant_id",
    rows=_ROWS.format(outcome="fired"),
    actor="m.actor",
    data="""jsonb_build_object('schedule', s.key, 'nominal_at', m.nominal_at,
            'task_id', m.task_id, 'is_manual', m.is_manual,
            'late_seconds', extract(epoch FROM taskmill_now() - m.nominal_at)::float8)""",
)
TELL_FIRED: Final = f"""
WITH changed AS (SELECT {RETURNING} FROM taskmill_firing f WHERE f.id = %(id)s), {FIRED}
SELECT count(*) FROM changed
"""  # noqa: S608 - built from constants
"""For a firing that the caller's transaction has written already."""

MISSED: Final = platform_event(
    PlatformEventType.SCHEDULE_MISSED,
    subject="s.id::text",
    tenant="s.tenant_id",
    rows=_ROWS.format(outcome="missed"),
    actor="m.actor",
    data="""jsonb_build_object('schedule', s.key, 'nominal_at', m.nominal_at,
            'covers_until', m.covers_until, 'reason', m.reason)""",
)
