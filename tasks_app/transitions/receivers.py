"""Adds a webhook address to a task; no verb: the state stays, and so does the version."""

from __future__ import annotations

import uuid

import orjson

from tasks_app.db import Cursor

_ADD = """
UPDATE taskmill_task SET webhook_urls = CASE
    WHEN webhook_urls @> %(url)s::jsonb THEN webhook_urls
    ELSE coalesce(webhook_urls, '[]') || %(url)s::jsonb END
WHERE id = %(id)s::uuid AND tenant_id = %(tenant)s
RETURNING jsonb_array_length(webhook_urls)
"""


def add_webhook_url(cursor: Cursor, *, tenant_id: int, task_id: uuid.UUID, url: str) -> int | None:
    """Add an address to a task, finished or not; nothing where the task has it.

    Returns:
        How many it has now, or None where there is no such task of this tenant.

    Concurrency: the row stays locked until the transaction ends, so a finish comes after it, and
    whoever reads the addresses when the final event is known reads this one too.
    """
    values = {"id": task_id, "tenant": tenant_id, "url": orjson.dumps([url]).decode()}
    cursor.execute(_ADD, values)
    row = cursor.fetchone()
    return None if row is None else int(row[0])
