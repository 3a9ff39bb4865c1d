"""The row of a queue that is used for the first time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tasks_app.db import Cursor

_KNOW: Final = """
WITH new AS (
    INSERT INTO taskmill_queue (name, description, "order", is_paused, paused_by, pause_reason)
    SELECT n, '', 'priority', false, '', '' FROM unnest(%(names)s::text[]) AS n ORDER BY n
    ON CONFLICT (name) DO NOTHING RETURNING name
)
SELECT pg_notify('taskmill_queues', name) FROM new
"""


def know_queues(cursor: Cursor, names: Sequence[str]) -> None:
    """Make the rows of queues used for the first time, and ring for the workers of all queues."""
    cursor.execute(_KNOW, {"names": list(names)})
