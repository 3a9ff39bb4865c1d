"""Tasks out of attempts: `failed`, `error` and `timeout`, newest first, within one tenant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.selectors.rows import decoded

GROUPING_CAP: Final = 5_000
TRACEBACK_TAIL: Final = 6_000
_FRAME: Final = re.compile(r'^  File "([^"\n]+)", line (\d+), in (\S+)', re.MULTILINE)
_FOREIGN: Final = ("/site-packages/", "/lib/python3", "/tasks_app/execution/", "<frozen ")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant; None for any.

    Attributes:
        type: task type.
        queue: queue name.
        code: the error's code, such as `NETWORK_ERROR`.
        state: `failed`, `error` or `timeout`.
        finished_before: aware instant.
    """

    type: str | None = None
    queue: str | None = None
    code: str | None = None
    state: str | None = None
    finished_before: datetime | None = None

    def conditions(self) -> str:
        """Give the SQL over `t` that goes with `values()`."""
        parts = ["t.tenant_id = %(tenant)s", "t.state IN ('failed', 'error', 'timeout')"]
        if self.type is not None:
            parts.append("t.type = %(type)s")
        if self.queue is not None:
            parts.append("t.queue = %(queue)s")
        if self.code is not None:
            parts.append("t.error ->> 'code' = %(code)s")
        if self.state is not None:
            parts.append("t.state = %(state)s")
        if self.finished_before is not None:
            parts.append("t.finished_at < %(finished_before)s")
        return " AND ".join(parts)

    def values(self, tenant_id: int) -> dict[str, Any]:
        """Give the parameters of `conditions()`."""
        return {
            "tenant": tenant_id,
            "type": self.type,
            "queue": self.queue,
            "code": self.code,
            "state": self.state,
            "finished_before": self.finished_before,
        }


_LIST = """
SELECT t.id, t.type, t.queue, t.state AS status, t.attempt, t.error, t.created_at, t.finished_at,
       t.worker, t.tags
FROM taskmill_task t WHERE {conditions} {after}
ORDER BY t.finished_at {order}, t.id {order} LIMIT %(most)s
"""


def dead_letters_listed(
    *,
    tenant_id: int,
    wanted: DeadLetterFilter,
    most: int,
    position: tuple[Any, ...] | None = None,
    is_backward: bool = False,
) -> list[dict[str, Any]]:
    """Give dead letters by when they ended, newest first (oldest where `is_backward`).

    Args:
        position: `(finished_at, id)` of the row to begin after.
    """
    comparison = ">" if is_backward else "<"
    after = (
        f"AND (t.finished_at, t.id) {comparison} (%(at)s::timestamptz, %(id)s::uuid)"
        if position is not None
        else ""
    )
    statement = _LIST.format(
        conditions=wanted.conditions(), after=after, order="ASC" if is_backward else "DESC"
    )
    at, task_id = position or (None, None)
    values = wanted.values(tenant_id) | {"most": most, "at": at, "id": task_id}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = rows_as_dicts(cursor)
    return [row | {"error": decoded(row["error"]), "worker": row["worker"] or None} for row in rows]


_CAUSES = """
SELECT t.id, t.type, t.queue, coalesce(t.error ->> 'code', upper(t.state)) AS code,
       t.error ->> 'message' AS message, t.finished_at, right(a.traceback, %(tail)s) AS traceback
FROM (SELECT * FROM taskmill_task t WHERE {conditions}
      ORDER BY t.finished_at DESC, t.id DESC LIMIT %(most)s) t
LEFT JOIN taskmill_attempt a ON a.task_id = t.id AND a.epoch = t.epoch
ORDER BY t.finished_at DESC, t.id DESC
"""


def dead_letters_by_cause(
    *, tenant_id: int, wanted: DeadLetterFilter
) -> tuple[list[dict[str, Any]], bool]:
    """Group the newest `GROUPING_CAP` dead letters by type, error code and raising frame.

    Returns:
        `{type, code, frame, count, first_seen_at, last_seen_at, sample_id, sample_message, queues}`
        of each group, largest first, and whether the cap left older ones out.
    """
    statement = _CAUSES.format(conditions=wanted.conditions())
    values = wanted.values(tenant_id) | {"most": GROUPING_CAP + 1, "tail": TRACEBACK_TAIL}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = rows_as_dicts(cursor)
    groups = _grouped(rows[:GROUPING_CAP])
    return groups, len(rows) > GROUPING_CAP


def _grouped(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    for row in rows:
        frame = own_frame(row["traceback"] or "")
        group = groups.setdefault(
            (row["type"], row["code"], frame),
            {
                "type": row["type"],
                "code": row["code"],
                "frame": frame,
                "count": 0,
                "last_seen_at": row["finished_at"],
                "sample_id": row["id"],
                "sample_message": row["message"],
                "queues": [],
            },
        )
        group["count"] += 1
        group["first_seen_at"] = row["finished_at"]
        if row["queue"] not in group["queues"]:
            group["queues"].append(row["queue"])
    return sorted(groups.values(), key=lambda group: -group["count"])


def own_frame(traceback: str) -> str | None:
    """Give the innermost frame of the handler's own code, as `orders/handlers.py in charge`."""
    own = [
        (path, function)
        for path, _, function in _FRAME.findall(traceback)
        if not any(part in path for part in _FOREIGN)
    ]
    if not own:
        return None
    path, function = own[-1]
    return f"{'/'.join(path.split('/')[-2:])} in {function}"
