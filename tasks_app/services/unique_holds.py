"""Keys that are unique for a time: a row each, arbitrated by its unique index.

All functions work in the caller's transaction and keep the key's row locked until its end, so that
submissions of one key go one after another.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.db import connection

from tasks_app.selectors.holders import Holder, holder_of_id

_HELD: Final = """
SELECT task_id FROM taskmill_unique_hold
WHERE tenant_id = %(tenant)s AND key = %(key)s AND expires_at > taskmill_now() FOR UPDATE
"""
_FORGET: Final = """
DELETE FROM taskmill_unique_hold WHERE tenant_id = %(tenant)s AND key = %(key)s
"""
_HOLD: Final = """
INSERT INTO taskmill_unique_hold AS h (tenant_id, key, task_id, expires_at)
VALUES (%(tenant)s, %(key)s, %(task)s, taskmill_now() + make_interval(secs => %(ttl)s))
ON CONFLICT (tenant_id, key) DO UPDATE SET
    task_id = excluded.task_id, expires_at = excluded.expires_at
WHERE h.expires_at <= taskmill_now() OR h.task_id = %(before)s::uuid
"""


def held_by(*, tenant_id: int, key: str) -> Holder | None:
    """Give the task that holds a key, finished or not; a key whose task was purged is free."""
    values: dict[str, Any] = {"tenant": tenant_id, "key": key}
    with connection.cursor() as cursor:
        cursor.execute(_HELD, values)
        row = cursor.fetchone()
        if row is None:
            return None
        holder = holder_of_id(tenant_id=tenant_id, task_id=row[0])
        if holder is None:
            cursor.execute(_FORGET, values)
    return holder


def hold(
    *,
    tenant_id: int,
    key: str,
    task_id: uuid.UUID,
    ttl_seconds: int | None,
    before: uuid.UUID | None = None,
) -> bool:
    """Let a task hold a key for a time from now on.

    Args:
        before: the task that may be holding it.

    Returns:
        False: another task holds it.

    Concurrency: waits for a twin that is under way.
    """
    values: dict[str, Any] = {"tenant": tenant_id, "key": key, "task": task_id, "before": before}
    with connection.cursor() as cursor:
        cursor.execute(_HOLD, values | {"ttl": ttl_seconds})
        return bool(cursor.rowcount == 1)
