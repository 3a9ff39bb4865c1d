"""Reads of the feed by sequence; each is served by an index whatever the sizes of the tables.

`LATERAL ... LIMIT 1` holds the planner to one index look-up per event, and `ORDER BY ... LIMIT` to
the order of the primary key, where its estimates would have it read whole tables. An event that was
purged with its task is missing from what is read; its sequence is not given to another.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from tasks_app.db import Cursor
from tasks_app.feed.event import FeedEvent, feed_event

BOUNDS: Final = """
SELECT
    coalesce(
        (SELECT first_sequence FROM taskmill_feed ORDER BY first_sequence LIMIT 1), 1) AS first,
    coalesce(
        (SELECT last_sequence FROM taskmill_feed ORDER BY first_sequence DESC LIMIT 1), 0) AS last
"""
_EVENT: Final = """e.id, e.subject, e.task_id, e.tenant_id, e.seq, e.type, e.from_state, e.state,
    e.epoch, e.attempt, e.at, e.actor, e.data, t.tags, t.task_type, t.progress, t.progress_message,
    n.slug AS tenant"""
_OF_TASK: Final = """LEFT JOIN LATERAL (
    SELECT tags, type AS task_type, progress, progress_message FROM taskmill_task
    WHERE id = e.task_id LIMIT 1
) t ON true
LEFT JOIN LATERAL (SELECT slug FROM taskmill_tenant WHERE id = e.tenant_id LIMIT 1) n ON true"""
"""What the task is like now."""

PAGE: Final = f"""
WITH b AS MATERIALIZED (
    SELECT first_sequence, ids FROM taskmill_feed
    WHERE first_sequence <= %(until)s::bigint AND first_sequence >= coalesce((
        SELECT first_sequence FROM taskmill_feed WHERE first_sequence <= %(after)s::bigint + 1
        ORDER BY first_sequence DESC LIMIT 1), 0)
    ORDER BY first_sequence LIMIT %(until)s::bigint - %(after)s::bigint
)
SELECT b.first_sequence + i.place - 1 AS sequence, {_EVENT}
FROM b CROSS JOIN LATERAL unnest(b.ids) WITH ORDINALITY AS i(id, place)
CROSS JOIN LATERAL (SELECT * FROM taskmill_event WHERE id = i.id LIMIT 1) e
{_OF_TASK}
WHERE b.first_sequence + i.place - 1 > %(after)s::bigint
  AND b.first_sequence + i.place - 1 <= %(until)s::bigint
  AND (%(tenant)s::bigint IS NULL OR e.tenant_id IS NULL OR e.tenant_id = %(tenant)s::bigint)
  AND (%(types)s::text[] IS NULL OR e.type = ANY(%(types)s::text[]))
  AND (%(tasks)s::uuid[] IS NULL OR e.task_id = ANY(%(tasks)s::uuid[]))
ORDER BY sequence
"""  # noqa: S608 - built from constants
"""What is in (after, until], of all tenants, or of one and the installation; of some types or of
some tasks alone, where these are named."""

PAGE_OF_TASKS: Final = f"""
SELECT b.first_sequence + array_position(b.ids, e.id) - 1 AS sequence, {_EVENT}
FROM taskmill_event e
CROSS JOIN LATERAL (
    SELECT first_sequence, ids FROM taskmill_feed
    WHERE int8range(low_id, high_id, '[]') @> e.id AND e.id = ANY(ids)
      AND last_sequence > %(after)s::bigint
    LIMIT 1
) b
{_OF_TASK}
WHERE e.task_id = ANY(%(tasks)s::uuid[]) AND e.tenant_id = %(tenant)s::bigint
  AND b.first_sequence + array_position(b.ids, e.id) - 1 > %(after)s::bigint
  AND b.first_sequence + array_position(b.ids, e.id) - 1 <= %(until)s::bigint
ORDER BY sequence LIMIT %(limit)s
"""  # noqa: S608 - built from constants
"""The same of some tasks, by their history."""

_LAST_OF_TASK: Final = """
SELECT b.first_sequence + array_position(b.ids, e.id) - 1
FROM (SELECT id FROM taskmill_event WHERE task_id = %(id)s::uuid ORDER BY seq DESC LIMIT 1) e
CROSS JOIN LATERAL (
    SELECT first_sequence, ids FROM taskmill_feed
    WHERE int8range(low_id, high_id, '[]') @> e.id AND e.id = ANY(ids) LIMIT 1
) b
"""


@dataclass(frozen=True, slots=True)
class FeedBounds:
    """The first and the last sequence that can be read; `first` is `last + 1` while there is none.

    A cursor before `first - 1` is too old to resume from; one after `last` is of another feed.
    """

    first: int
    last: int

    def has(self, after: int) -> bool:
        """Say whether everything after this cursor can still be given."""
        return self.first - 1 <= after <= self.last


def feed_bounds(cursor: Cursor) -> FeedBounds:
    """Give the bounds of the feed now."""
    cursor.execute(BOUNDS)
    return FeedBounds(*cursor.fetchone())


def sequence_of_last_event(cursor: Cursor, task_id: uuid.UUID) -> int | None:
    """Give the sequence of a task's newest event; None while, or since, the feed has it not."""
    cursor.execute(_LAST_OF_TASK, {"id": task_id})
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def read_feed(
    cursor: Cursor, *, after: int, until: int, tenant_id: int | None = None
) -> list[FeedEvent]:
    """Give the events of (after, until] in their order: of all tenants, or of one and the
    installation.
    """
    values = {"after": after, "until": until, "tenant": tenant_id, "types": None, "tasks": None}
    cursor.execute(PAGE, values)
    names = [column.name for column in cursor.description or ()]
    return [feed_event(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
