"""Finished tasks leave for good, with everything that hangs on them: the one place that deletes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from tasks_app.db import Cursor
from tasks_app.transitions.sql import IS_DEAD, IS_DONE

CHILDREN: Final = ("taskmill_event", "taskmill_attempt", "taskmill_log", "taskmill_once")
"""Tables whose rows go with their task."""


def _delete(old: str) -> str:
    """Give the statement that deletes the finished tasks which `old` finds, and counts them; that
    they were there is kept.

    Their rows are locked first, in an order. What goes is named by arrays: for a join the planner
    may read the tables whole, as it believes that a limit's worth of rows is much of them.
    """
    children = "".join(
        f", {table} AS (DELETE FROM {table} WHERE task_id = ANY(ARRAY(SELECT id FROM gone)))"  # noqa: S608 - a constant
        for table in CHILDREN
    )
    return f"""
WITH old AS MATERIALIZED (
    SELECT id FROM taskmill_task WHERE finished_at IS NOT NULL AND {old}
), gone AS (
    DELETE FROM taskmill_task WHERE id = ANY(ARRAY(SELECT id FROM old)) RETURNING id, tenant_id
){children}, remembered AS (
    INSERT INTO taskmill_purged_task (task_id, tenant_id, purged_at)
    SELECT id, tenant_id, taskmill_now() FROM gone ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
"""  # noqa: S608 - built from constants


_NAMED: Final = "id = ANY(%(ids)s::uuid[]) AND tenant_id = %(tenant)s"
_PURGE: Final = _delete(f"{_NAMED} AND {IS_DEAD} ORDER BY id FOR UPDATE")
_CLEAN: Final = _delete(
    f"""{_NAMED} AND queue = %(queue)s AND state = %(state)s
      AND finished_at <= taskmill_now() - make_interval(secs => %(grace)s::float8)
    ORDER BY id FOR UPDATE"""
)


def _prune(of_class: str) -> str:
    return _delete(
        f"""{of_class}
      AND finished_at < taskmill_now() - make_interval(secs => %(age)s::float8)
    ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""
    )


_PRUNE_DONE: Final = _prune(IS_DONE)
_PRUNE_DEAD: Final = _prune(IS_DEAD)


def purge(cursor: Cursor, *, tenant_id: int, task_ids: Sequence[uuid.UUID]) -> int:
    """Delete dead letters of a tenant with their events, attempts, logs and stored values.

    Returns:
        How many there were; tasks redriven meanwhile stay.
    """
    cursor.execute(_PURGE, {"ids": list(task_ids), "tenant": tenant_id})
    return int(cursor.fetchone()[0])


def clean(
    cursor: Cursor,
    *,
    tenant_id: int,
    task_ids: Sequence[uuid.UUID],
    queue: str,
    state: str,
    grace_seconds: float,
) -> int:
    """Delete those of the tasks that finished in this state at least so long ago, with their
    events, attempts, logs and stored values.

    Returns:
        How many there were; tasks redriven meanwhile stay.
    """
    values = {
        "ids": list(task_ids),
        "tenant": tenant_id,
        "queue": queue,
        "state": state,
        "grace": grace_seconds,
    }
    cursor.execute(_CLEAN, values)
    return int(cursor.fetchone()[0])


def prune(cursor: Cursor, *, dead: bool, age_seconds: float, limit: int) -> int:
    """Delete the tasks of one retention class that finished first, those older than `age_seconds`.

    Reads no more of the table than it deletes: each class has its index by the time of finish.

    Args:
        dead: dead letters; False for those that succeeded or were cancelled.

    Returns:
        How many there were; tasks that somebody has locked are left for later.
    """
    statement = _PRUNE_DEAD if dead else _PRUNE_DONE
    cursor.execute(statement, {"age": age_seconds, "limit": limit})
    return int(cursor.fetchone()[0])
