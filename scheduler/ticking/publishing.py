"""Publishes the plain Celery tasks of due schedules, outside the transactions that fire them.

The row says what is still to be published, so a broker that is away or a beat that dies costs time,
not a run: at least once. Taskmill's own tasks never pass here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from celery.beat import SchedulingError
from django.db import connection
from django_celery_beat.models import PeriodicTask
from kombu.exceptions import KombuError

from scheduler.conf import SchedulerConf
from tasks_app.telemetry import logger

log = logger(__name__)

BATCH: Final = 50
RETRY_SECONDS: Final = 5.0

_CLAIM: Final = """
UPDATE taskmill_firing SET tries = least(tries + 1, 32000),
    claimed_until = taskmill_now() + make_interval(secs => %(lease)s)
WHERE id IN (
    SELECT id FROM taskmill_firing
    WHERE outcome = 'publishing' AND (claimed_until IS NULL OR claimed_until < taskmill_now())
    ORDER BY nominal_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING id, schedule_id,
    (SELECT periodic_task_id FROM taskmill_schedule s WHERE s.id = schedule_id)
"""

_DONE: Final = """
WITH done AS (
    UPDATE taskmill_firing SET outcome = 'fired', fired_at = taskmill_now(), claimed_until = NULL,
        reason = ''
    WHERE id = %(id)s AND outcome = 'publishing' RETURNING schedule_id
), counted AS (
    UPDATE taskmill_schedule s SET fired_count = s.fired_count + 1, last_fired_at = taskmill_now(),
        last_outcome = 'fired', updated_at = taskmill_now()
    FROM done WHERE s.id = done.schedule_id RETURNING s.periodic_task_id, s.status
)
UPDATE django_celery_beat_periodictask p SET last_run_at = taskmill_now(),
    total_run_count = CASE WHEN counted.status = 'ended' AND p.one_off THEN 0
        ELSE p.total_run_count + 1 END
FROM counted WHERE p.id = counted.periodic_task_id
"""

_FAILED: Final = """
UPDATE taskmill_firing SET reason = %(reason)s,
    claimed_until = taskmill_now() + make_interval(secs => %(retry)s)
WHERE id = %(id)s AND outcome = 'publishing'
"""

Publish = Callable[[PeriodicTask], Any]
"""Publishes a periodic task; raises what Celery raises."""


def publish_due(publish: Publish, conf: SchedulerConf) -> tuple[int, int]:
    """Publish at most a batch; gives how many were published, and how many failed.

    Concurrency: any number of beats; a claim that its beat does not fulfil is free after
    `publish_lease_seconds`, so a beat that dies between publishing and noting it makes a second
    message.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"limit": BATCH, "lease": conf.publish_lease_seconds})
        claimed = cursor.fetchall()
    failed = 0
    rows = PeriodicTask.objects.select_related("crontab", "interval", "solar", "clocked").in_bulk(
        [row[2] for row in claimed]
    )
    for firing_id, _, row_id in claimed:
        fault = _publish(publish, rows[row_id]) if row_id in rows else "it was deleted"
        failed += fault is not None
        with connection.cursor() as cursor:
            if fault is None:
                cursor.execute(_DONE, {"id": firing_id})
            else:
                values = {"id": firing_id, "reason": fault, "retry": RETRY_SECONDS}
                cursor.execute(_FAILED, values)
    return len(claimed) - failed, failed


def _publish(publish: Publish, task: PeriodicTask) -> str | None:
    """Publish, and give what went wrong."""
    try:
        publish(task)
    except (SchedulingError, KombuError, OSError, ValueError) as error:
        log.warning("a periodic task was not published", schedule=task.name, why=str(error)[:300])
        return f"not published yet: {error}"[:500]
    return None
