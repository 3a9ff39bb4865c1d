"""What webhooks need of tasks beside their events: what the task is, and its own receivers."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks_app.db import Cursor
from tasks_app.selectors.rows import decoded

_FACTS: Final = """
SELECT t.id, t.type, t.queue, t.metadata::text AS metadata, t.tags,
       t.webhook_urls::text AS webhook_urls, t.state,
       CASE WHEN octet_length(t.result::text) <= %(most)s THEN t.result::text END AS result,
       t.result IS NOT NULL AND octet_length(t.result::text) > %(most)s AS is_result_left_out
FROM unnest(%(ids)s::uuid[]) AS wanted(id)
CROSS JOIN LATERAL (SELECT * FROM taskmill_task WHERE id = wanted.id LIMIT 1) t
"""
"""JSON comes as text on every connection: Django's give jsonb as it is stored, the engine's decode
it, and a result that is a text would be taken for JSON again."""


_HAS_OWN: Final = """
SELECT (SELECT id FROM taskmill_task WHERE webhook_urls IS NOT NULL
        ORDER BY jsonb_array_length(webhook_urls) LIMIT 1) IS NOT NULL
"""
"""The order is that of the index `task_own_receivers`. Without it, and in EXISTS, which drops it,
the planner expects to find one soon and reads the table: all of it where there is none."""


def has_own_receivers(cursor: Cursor) -> bool:
    """Say whether any task that is kept names receivers of its own."""
    cursor.execute(_HAS_OWN)
    return bool(cursor.fetchone()[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """A task as a receiver of its events is told of it.

    Attributes:
        result: None where there is none, and where `is_result_left_out` for its size.
        webhook_urls: the task's own receivers.
    """

    id: uuid.UUID
    type: str
    queue: str
    metadata: dict[str, Any]
    tags: Sequence[str]
    webhook_urls: Sequence[str]
    state: str
    result: Any
    is_result_left_out: bool


def task_facts(
    cursor: Cursor, task_ids: Collection[uuid.UUID], *, most_result_bytes: int
) -> dict[uuid.UUID, TaskFacts]:
    """Give the facts of those tasks that exist, by id; one look-up each."""
    if not task_ids:
        return {}
    cursor.execute(_FACTS, {"ids": list(task_ids), "most": most_result_bytes})
    names = [column.name for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    for row in rows:
        row["webhook_urls"] = decoded(row["webhook_urls"]) or []
        row["metadata"], row["result"] = decoded(row["metadata"]), decoded(row["result"])
    return {row["id"]: TaskFacts(**row) for row in rows}
