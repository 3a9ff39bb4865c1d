"""Single tasks, always within one tenant: another tenant's task is as absent as a random id."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any, Final

from django.db import connection

from tasks_app.db import prepared_cursor
from tasks_app.errors import TaskNotFound, TaskPurged
from tasks_app.selectors.rows import SELECTED, task_row

_ONE: Final = f"""
SELECT {SELECTED} FROM taskmill_task t WHERE t.id = %(id)s AND t.tenant_id = %(tenant)s
"""  # noqa: S608 - built from constants
_MANY: Final = f"""
SELECT {SELECTED} FROM taskmill_task t
WHERE t.id = ANY(%(ids)s) AND t.tenant_id = %(tenant)s
"""  # noqa: S608 - built from constants


_PURGED: Final = """
SELECT 1 FROM taskmill_purged_task WHERE task_id = ANY(%(ids)s) AND tenant_id = %(tenant)s LIMIT 1
"""


def absent_task(*, tenant_id: int, task_ids: Collection[uuid.UUID]) -> TaskNotFound:
    """Give the error for tasks that a tenant does not have: whether one of them was purged."""
    with connection.cursor() as cursor:
        cursor.execute(_PURGED, {"ids": list(task_ids), "tenant": tenant_id})
        return TaskNotFound() if cursor.fetchone() is None else TaskPurged()


def find_task(*, tenant_id: int, task_id: uuid.UUID, is_shown: bool = False) -> dict[str, Any]:
    """Give a task's row.

    Args:
        is_shown: see `rows.task_row`.

    Raises:
        TaskNotFound: no such task of this tenant; TaskPurged: not any more.
    """
    with prepared_cursor() as cursor:
        cursor.execute(_ONE, {"id": task_id, "tenant": tenant_id})
        values = cursor.fetchone()
    if values is None:
        raise absent_task(tenant_id=tenant_id, task_ids=[task_id])
    return task_row(values, is_shown=is_shown)


def tasks_by_id(*, tenant_id: int, task_ids: list[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    """Give the rows of those tasks that exist, by id."""
    with connection.cursor() as cursor:
        cursor.execute(_MANY, {"ids": task_ids, "tenant": tenant_id})
        rows = [task_row(values) for values in cursor.fetchall()]
    return {row["id"]: row for row in rows}


def find_state(*, tenant_id: int, task_id: uuid.UUID) -> tuple[str, int]:
    """Give a task's state and version.

    Raises:
        TaskNotFound: no such task of this tenant; TaskPurged: not any more.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT state, version FROM taskmill_task WHERE id = %s AND tenant_id = %s",
            [task_id, tenant_id],
        )
        values = cursor.fetchone()
    if values is None:
        raise absent_task(tenant_id=tenant_id, task_ids=[task_id])
    return str(values[0]), int(values[1])
