"""Tasks out of attempts: `failed`, `error` and `timeout`, newest first, within one tenant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from tasks_app.db import rows_as_dicts
from tasks_app.selectors.canaries import CANARY_TENANT
from tasks_app.selectors.rows import decoded

GROUPING_CAP: Final = 5_000
GROUPS_SHOWN: Final = 500
COUNT_CAP: Final = 100_000
RECENT_SECONDS: Final = 300
RECENT_CAP: Final = 2_000
QUEUES_CAP: Final = 100
CAUSE: Final = """left(md5(t.type || '/' || coalesce(t.error ->> 'code', upper(t.state))
    || '/' || coalesce(t.frame, '')), 16)"""
"""The id of a dead letter's group; spelt as `models.task.Cause`, whose index serves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant; None for any.

    Attributes:
        type: task type.
        queue: queue name.
        code: the error's code, such as `NETWORK_ERROR`.
        state: `failed`, `error` or `timeout`.
        finished_before: aware instant.
        group_id: of a group, as `dead_letters_by_cause` gives it.
    """

    type: str | None = None
    queue: str | None = None
    code: str | None = None
    state: str | None = None
    finished_before: datetime | None = None
    group_id: str | None = None

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
        if self.group_id is not None:
            parts.append(f"{CAUSE} = %(group_id)s")
        return " AND ".join(parts)

    def values(self, tenant_id: int) -> dict[str, Any]:
        """Give the parameters of `conditions()`."""
        return {"tenant": tenant_id} | asdict(self)

    def chosen(self) -> dict[str, Any]:
        """Give the fields that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


_LIST = f"""
SELECT t.id, t.type, t.queue, t.state AS status, t.attempt, t.error, t.created_at, t.finished_at,
       t.worker, t.tags, t.frame, {CAUSE} AS group_id
FROM taskmill_task t WHERE {{conditions}} {{after}}
ORDER BY t.finished_at {{order}}, t.id {{order}} LIMIT %(most)s
"""  # noqa: S608 - built from constants


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


_CAUSES = f"""
SELECT group_id AS id, type, code, nullif(frame, '') AS frame, count(*) AS count,
    min(finished_at) AS first_seen_at, max(finished_at) AS last_seen_at,
    (array_agg(few.id ORDER BY finished_at DESC, few.id DESC))[1] AS sample_id,
    (array_agg(message ORDER BY finished_at DESC, few.id DESC))[1] AS sample_message,
    array_agg(DISTINCT queue) AS queues, sum(count(*)) OVER () > %(cap)s AS is_capped
FROM (SELECT t.id, t.type, t.queue, t.finished_at, coalesce(t.frame, '') AS frame,
        coalesce(t.error ->> 'code', upper(t.state)) AS code, t.error ->> 'message' AS message,
        {CAUSE} AS group_id
      FROM taskmill_task t WHERE {{conditions}}
      ORDER BY t.finished_at DESC, t.id DESC LIMIT %(cap)s + 1) few
GROUP BY group_id, type, code, frame ORDER BY count(*) DESC, group_id LIMIT %(most)s
"""  # noqa: S608 - built from constants


def dead_letters_by_cause(
    *, tenant_id: int, wanted: DeadLetterFilter
) -> tuple[list[dict[str, Any]], bool]:
    """Group the newest `GROUPING_CAP` dead letters by type, error code and raising frame.

    Returns:
        `{id, type, code, frame, count, first_seen_at, last_seen_at, sample_id, sample_message,
        queues}` of each group, largest first, at most `GROUPS_SHOWN`, and whether the cap left
        older dead letters out. The id of a cause is the same at all times.
    """
    statement = _CAUSES.format(conditions=wanted.conditions())
    values = wanted.values(tenant_id) | {"cap": GROUPING_CAP, "most": GROUPS_SHOWN}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = rows_as_dicts(cursor)
    capped = [row.pop("is_capped") for row in rows]
    return rows, any(capped)


def dead_letters_count(*, tenant_id: int, wanted: DeadLetterFilter) -> tuple[int, bool]:
    """Count dead letters up to `COUNT_CAP`, and say whether there are more."""
    statement = f"""SELECT count(*) FROM (
        SELECT FROM taskmill_task t WHERE {wanted.conditions()} LIMIT %(cap)s + 1) few"""  # noqa: S608 - built from constants
    with connection.cursor() as cursor:
        cursor.execute(statement, wanted.values(tenant_id) | {"cap": COUNT_CAP})
        found = int(cursor.fetchone()[0])
    return min(found, COUNT_CAP), found > COUNT_CAP


_RECENT: Final = """
SELECT few.queue, count(*) FROM taskmill_tenant n CROSS JOIN LATERAL (
    SELECT t.queue FROM taskmill_task t
    WHERE t.tenant_id = n.id AND t.state IN ('failed', 'error', 'timeout')
      AND t.finished_at > taskmill_now() - make_interval(secs => %(seconds)s)
    ORDER BY t.finished_at DESC LIMIT %(cap)s
) few WHERE n.slug <> %(canaries)s GROUP BY few.queue ORDER BY count(*) DESC LIMIT %(queues)s
"""


def dead_letters_recent() -> dict[str, int]:
    """Count what died in the last `RECENT_SECONDS` by queue, `RECENT_CAP` of each tenant."""
    values: dict[str, Any] = {"seconds": RECENT_SECONDS, "cap": RECENT_CAP, "queues": QUEUES_CAP}
    values["canaries"] = CANARY_TENANT
    with connection.cursor() as cursor:
        cursor.execute(_RECENT, values)
        return dict(cursor.fetchall())
