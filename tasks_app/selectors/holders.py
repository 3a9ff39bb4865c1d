"""Who holds a key: the task that a submission of the same key meets, always within one tenant."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection


@dataclass(frozen=True, slots=True)
class Holder:
    """A task that holds a key."""

    id: uuid.UUID
    state: str
    queue: str
    payload_bytes: int


_SELECT: Final = "SELECT t.id, t.state, t.queue, t.payload_bytes FROM taskmill_task t"
_ACTIVE: Final = f"""
{_SELECT} WHERE t.tenant_id = %(tenant)s AND t.unique_key = %(key)s AND t.finished_at IS NULL
"""
_BY_ID: Final = f"{_SELECT} WHERE t.tenant_id = %(tenant)s AND t.id = %(id)s"
_DEBOUNCED: Final = f"""
{_SELECT} WHERE t.tenant_id = %(tenant)s AND t.type = %(type)s AND t.debounce_key = %(key)s
    AND t.epoch = 0 AND t.finished_at IS NULL
"""


def holder_while_active(*, tenant_id: int, key: str) -> Holder | None:
    """Give the unfinished task that holds a unique key."""
    return _one(_ACTIVE, {"tenant": tenant_id, "key": key})


def holder_of_id(*, tenant_id: int, task_id: uuid.UUID) -> Holder | None:
    """Give a task as the holder of a key."""
    return _one(_BY_ID, {"tenant": tenant_id, "id": task_id})


def holder_debounced(*, tenant_id: int, task_type: str, key: str) -> Holder | None:
    """Give the task that waits for its first start under a debounce key."""
    return _one(_DEBOUNCED, {"tenant": tenant_id, "type": task_type, "key": key})


def _one(query: str, values: dict[str, Any]) -> Holder | None:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        row = cursor.fetchone()
    return None if row is None else Holder(*row)
