"""The numbers of each hour: measured once, kept per tenant, queue and type, and added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction

from scheduler.models import HourNumbers
from tasks_app.db import rows_as_dicts
from tasks_app.platform import finished_between

HOUR: Final = timedelta(hours=1)
STATUSES: Final = ("success", "failed", "error", "timeout", "cancelled")
FAILURES: Final = ("failed", "error", "timeout")
MEASURES: Final = (*STATUSES, "run_count", "run_seconds", "wait_count", "wait_seconds")


@dataclass(slots=True, kw_only=True)
class Numbers:
    """How finished tasks ended and how long they took; seconds are sums."""

    success: int = 0
    failed: int = 0
    error: int = 0
    timeout: int = 0
    cancelled: int = 0
    run_count: int = 0
    run_seconds: float = 0.0
    wait_count: int = 0
    wait_seconds: float = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row with the same measures."""
        for name in MEASURES:
            setattr(self, name, getattr(self, name) + row[name])

    @property
    def by_status(self) -> dict[str, int]:
        """How many ended how."""
        return {name: getattr(self, name) for name in STATUSES}

    @property
    def finished(self) -> int:
        """How many ended."""
        return sum(self.by_status.values())

    @property
    def failures(self) -> int:
        """How many ended as failed, error or timeout."""
        return self.failed + self.error + self.timeout

    @property
    def success_rate(self) -> float | None:
        """Successes among the finished, cancelled ones aside, 0 to 1."""
        judged = self.success + self.failures
        return round(self.success / judged, 4) if judged else None

    @property
    def average_run_seconds(self) -> float | None:
        """Of the tasks that were started."""
        return round(self.run_seconds / self.run_count, 4) if self.run_count else None

    @property
    def average_wait_seconds(self) -> float | None:
        """From the queue to the start."""
        return round(self.wait_seconds / self.wait_count, 4) if self.wait_count else None


def total(rows: Iterable[Mapping[str, Any]]) -> Numbers:
    """Add rows up."""
    found = Numbers()
    for row in rows:
        found.add(row)
    return found


def keep_hour(hour: datetime) -> int:
    """Measure the hour that begins at `hour` and keep its rows; gives how many tasks finished.

    Concurrency: repeating it replaces the rows by what the tasks say now, in one transaction.
    """
    rows = finished_between(hour, hour + HOUR)
    with transaction.atomic():
        HourNumbers.objects.filter(hour=hour).delete()
        HourNumbers.objects.bulk_create(
            (HourNumbers(hour=hour, **row) for row in rows), batch_size=1000
        )
    return total(rows).finished


_HISTORY: Final = """
SELECT hour, sum(success)::int AS success, sum(failed)::int AS failed, sum(error)::int AS error,
    sum(timeout)::int AS timeout, sum(cancelled)::int AS cancelled,
    sum(run_count)::int AS run_count, sum(run_seconds)::float8 AS run_seconds,
    sum(wait_count)::int AS wait_count, sum(wait_seconds)::float8 AS wait_seconds
FROM taskmill_hour
WHERE tenant_id = %(tenant)s AND hour >= taskmill_now() - make_interval(secs => %(seconds)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(type)s::text IS NULL OR type = %(type)s)
GROUP BY hour ORDER BY hour
"""


def hours_kept(
    *, tenant_id: int, seconds: float, queue: str | None = None, type_name: str | None = None
) -> list[tuple[datetime, Numbers]]:
    """Give a tenant's kept hours of the latest `seconds`, in order; idle hours are left out."""
    values = {"tenant": tenant_id, "seconds": seconds, "queue": queue, "type": type_name}
    with connection.cursor() as cursor:
        cursor.execute(_HISTORY, values)
        return [(row["hour"], total([row])) for row in rows_as_dicts(cursor)]
