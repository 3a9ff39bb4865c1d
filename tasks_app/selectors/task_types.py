"""Small statistics of one task type, over its latest tasks alone, so that they stay cheap."""

from __future__ import annotations

from typing import Any, Final

from django.db import connection

from tasks_app.selectors.parts import parts_of
from tasks_app.states import status_of

SAMPLE: Final = 1000
_NEWEST: Final = " UNION ALL ".join(
    f"""(SELECT t.id, t.state, t.started_at, t.finished_at FROM taskmill_task t
        WHERE t.tenant_id = %(tenant)s AND t.type = %(type)s AND {part}
        ORDER BY t.id DESC LIMIT %(sample)s)"""  # noqa: S608 - built from constants
    for part in parts_of(())
)
_SAMPLE: Final = f"""
SELECT state, count(*), avg(extract(epoch FROM finished_at - started_at))::float8
FROM (SELECT * FROM ({_NEWEST}) newest ORDER BY id DESC LIMIT %(sample)s) t
GROUP BY state
"""  # noqa: S608 - built from constants


def type_statistics(*, tenant_id: int, task_type: str) -> dict[str, Any]:
    """Give counts per status and the average run over the latest 1,000 tasks of a type.

    Returns:
        `{sample, by_status: {status: count}, success_rate, average_run_seconds}`; the rate is
        among finished tasks, 0 to 1, null without any.
    """
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"tenant": tenant_id, "type": task_type, "sample": SAMPLE}
        cursor.execute(_SAMPLE, values)
        rows = cursor.fetchall()
    by_status: dict[str, int] = {}
    average = None
    for state, count, seconds in rows:
        status = status_of(state).value
        by_status[status] = by_status.get(status, 0) + count
        if state == "success":
            average = seconds
    live = by_status.get("pending", 0) + by_status.get("processing", 0)
    finished = sum(by_status.values()) - live
    return {
        "sample": sum(by_status.values()),
        "by_status": by_status,
        "success_rate": by_status.get("success", 0) / finished if finished else None,
        "average_run_seconds": average,
    }
