"""The task list: filters, keyset pages and a capped count, each filter served by an index.

Order by creation is order of id (UUIDv7). Bounds on `created_at` become bounds on the id. States,
and what is at rest and under way where none is named, are read as several bounded index scans and
merged, so that a rare or a huge state costs no more than the page.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from django.db import connection

from tasks_app.selectors.parts import AT_REST, parts_of
from tasks_app.selectors.rows import SELECTED, task_row
from tasks_app.states import FINISHED, UNDER_WAY

COUNT_CAP: Final = 10_001
PAGE_BYTES: Final = 8 * 1024 * 1024
"""A page ends with the task whose payload, metadata and result pass this; it is at least one task
long."""

GATHER_CAP: Final = 5_000
"""So many waiting tasks of some queues are gathered and sorted; of more, each queue's are read in
order."""

_PLAIN_BYTES: Final = 2_048


def _printed(column: str) -> str:
    """Give how long a jsonb is printed, nearly: a large one that is not compressed is not read for
    it. A small one may be printed much larger: `1e308` takes ten bytes and has 309 digits.
    """
    return f"""CASE WHEN pg_column_compression({column}) IS NULL
        AND pg_column_size({column}) > {_PLAIN_BYTES} THEN pg_column_size({column})
        ELSE coalesce(octet_length({column}::text), 0) END"""


_BYTES: Final = f"t.payload_bytes + {_printed('t.metadata')} + {_printed('t.result')}"
"""What an answer has of a task, nearly."""

_MAX_ID: Final = (1 << 128) - 1
_EQUALS: Final = ("type", "queue", "concurrency_key", "schedule", "parent")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks; None and empty mean "any".

    Attributes:
        states: stored states.
        queues: one of these; an empty tuple fits nothing.
        tags: all of them.
        created_after: inclusive bound, aware.
        created_before: exclusive bound, aware.
        id_prefix: 1 to 32 hex digits.
        blocked_by: `slots` or `rate`, what the rule limits that parked them.
    """

    states: tuple[str, ...] = ()
    queues: tuple[str, ...] | None = None
    type: str | None = None
    queue: str | None = None
    concurrency_key: str | None = None
    schedule: str | None = None
    parent: uuid.UUID | None = None
    tags: tuple[str, ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    id_prefix: str | None = None
    blocked_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row's place in an order; `at` is its `finished_at` where the order is by that."""

    id: uuid.UUID
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOrder:
    """In which order, and which part of it.

    Attributes:
        by: `created_at` or `finished_at`; the latter lists finished tasks alone.
        limit: most rows of a page; one more is fetched, so that it is known whether more follow.
        place: the row that the page begins after, or None.
        is_backward: the page before `place` is meant; its rows come in reverse order.
        offset: rows to skip, at most 10,000.
    """

    by: str = "created_at"
    is_descending: bool = True
    limit: int = 50
    place: Place | None = None
    is_backward: bool = False
    offset: int = 0


def task_rows(
    *, tenant_id: int, wanted: TaskFilter, order: TaskOrder
) -> tuple[list[dict[str, Any]], bool]:
    """Give the rows of a page, and whether more follow."""
    is_few = True
    if wanted.queues:
        is_few = tasks_count(tenant_id=tenant_id, wanted=wanted, cap=GATHER_CAP + 1) <= GATHER_CAP
    query, values = list_query(tenant_id=tenant_id, wanted=wanted, order=order, is_few=is_few)
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        found = cursor.fetchall()
    rows = [task_row(row[:-1], is_shown=True) for row in found[: order.limit]]
    return rows, bool(found) and found[0][-1] > len(rows)


def tasks_count(*, tenant_id: int, wanted: TaskFilter, cap: int = COUNT_CAP) -> int:
    """Count tasks, but no further than `cap`."""
    query, values = count_query(tenant_id=tenant_id, wanted=wanted, cap=cap)
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return int(cursor.fetchone()[0])


def count_query(
    *, tenant_id: int, wanted: TaskFilter, cap: int = COUNT_CAP
) -> tuple[str, dict[str, Any]]:
    """Give the statement of a count and its parameters; public for the test of its plan."""
    conditions, values = conditions_of(wanted)
    values |= {"tenant": tenant_id, "cap": cap}
    where = " AND ".join(["t.tenant_id = %(tenant)s", *conditions])
    few = " UNION ALL ".join(
        f"(SELECT 1 FROM taskmill_task t WHERE {where} AND {part} LIMIT %(cap)s)"  # noqa: S608 - built from constants
        for part in parts_of(wanted.states)
    )
    return f"SELECT count(*) FROM (SELECT FROM ({few}) each LIMIT %(cap)s) c", values  # noqa: S608 - built from constants


def list_query(
    *, tenant_id: int, wanted: TaskFilter, order: TaskOrder, is_few: bool = True
) -> tuple[str, dict[str, Any]]:
    """Give the statement of a page and its parameters; public for the test of its plan.

    Its last column is how many rows there were before the page was cut to `PAGE_BYTES`.

    Args:
        is_few: where `queues` are wanted, whether at most `GATHER_CAP` tasks fit.
    """
    is_by_queue = bool(wanted.queues) and not is_few
    conditions, values = conditions_of(replace(wanted, queues=None) if is_by_queue else wanted)
    is_down = order.is_descending != order.is_backward
    conditions += _placed(order, is_down=is_down, values=values)
    values |= {"tenant": tenant_id, "room": order.limit + 1, "offset": order.offset}
    values["reach"] = order.limit + 1 + order.offset
    states = wanted.states
    if order.by == "finished_at":
        conditions += ["t.finished_at IS NOT NULL", f"t.{AT_REST}"]
        states = tuple(state for state in states if state in FINISHED)
        if wanted.states and not states:
            conditions.append("false")
    sort = _sort(order, is_down=is_down)
    if is_by_queue:
        values["queues"] = list(wanted.queues or ())
        picked = _picked_by_queue(conditions, sort, states, values, is_down=is_down)
    else:
        is_any_finished = order.by == "finished_at" and not states
        parts = ["true"] if is_any_finished else parts_of(states)
        picked = _picked(conditions, sort, parts, is_gathered=bool(wanted.queues))
    query = f"""
        SELECT {SELECTED}, t.picked FROM (
            SELECT {SELECTED}, count(*) OVER () AS picked, sum({_BYTES}) OVER (
                ORDER BY {sort} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
            FROM (
                SELECT t.id FROM ({picked}) t
                ORDER BY {sort} LIMIT %(room)s OFFSET %(offset)s
            ) p JOIN taskmill_task t ON t.id = p.id WHERE t.tenant_id = %(tenant)s
        ) t WHERE coalesce(t.bytes_before, 0) < {PAGE_BYTES} ORDER BY {sort}
    """  # noqa: S608 - built from constants
    return query, values


def _any_in_queue(state: str) -> str:
    """Say whether tasks of a queue wait; in this form an index probe, in EXISTS perhaps a scan."""
    return f"""(SELECT 1 FROM taskmill_task w WHERE w.state {state}
        AND w.queue BETWEEN q.name AND q.name ORDER BY w.queue LIMIT 1) IS NOT NULL"""  # noqa: S608 - built from constants


_LATE: Final = "IN ('scheduled', 'blocked', 'retrying')"
_BY_QUEUE: Final = f"""
    SELECT few.id, few.finished_at FROM unnest(%(queues)s::text[]) AS q(name) CROSS JOIN LATERAL (
        SELECT t.id, t.finished_at FROM taskmill_task t
        WHERE t.tenant_id = %(tenant)s AND {{where}} AND t.state = ANY(%(at_rest)s) AND t.{AT_REST}
          AND t.queue BETWEEN q.name AND q.name
        ORDER BY t.queue {{way}}, {{sort}} LIMIT %(reach)s) few
    WHERE {_any_in_queue("= 'queued'")} OR {_any_in_queue("= 'dispatched'")}
       OR {_any_in_queue(_LATE)}
"""  # noqa: S608 - built from constants
"""Ordered by the queue too: `task_list_queue` alone serves that. Queues in which nothing waits are
left out, since their whole past would be read."""


def _picked_by_queue(
    conditions: Sequence[str],
    sort: str,
    states: Sequence[str],
    values: dict[str, Any],
    *,
    is_down: bool,
) -> str:
    """Give the statement that picks a page's ids of `queues`, or more: each queue's in their order,
    and what is under way.
    """
    under_way = [state for state in states if state in UNDER_WAY]
    values["at_rest"] = [state for state in states if state not in UNDER_WAY]
    where = " AND ".join(conditions) or "true"
    at_rest = _BY_QUEUE.format(where=where, way="" if is_down else "DESC", sort=sort)
    if not under_way:
        return at_rest
    more = _picked(
        [*conditions, "t.queue = ANY(%(queues)s)"], sort, parts_of(under_way), is_gathered=False
    )
    return f"{at_rest} UNION ALL {more}"


def _picked(
    conditions: Sequence[str], sort: str, parts: Sequence[str], *, is_gathered: bool
) -> str:
    """Give the statement that picks a page's ids, or more, from a branch per part.

    Args:
        is_gathered: read all that fit; `OFFSET 0` hides from the planner that few are wanted, or
            it walks the tasks in their order and passes over those of all other queues.
    """
    where = " AND ".join(["t.tenant_id = %(tenant)s", *conditions])
    end = "OFFSET 0" if is_gathered else f"ORDER BY {sort} LIMIT %(reach)s"
    return " UNION ALL ".join(
        f"(SELECT t.id, t.finished_at FROM taskmill_task t WHERE {where} AND {part} {end})"  # noqa: S608 - built from constants
        for part in parts
    )


def _sort(order: TaskOrder, *, is_down: bool) -> str:
    direction = "DESC" if is_down else "ASC"
    first = f"t.finished_at {direction}, " if order.by == "finished_at" else ""
    return f"{first}t.id {direction}"


def conditions_of(wanted: TaskFilter) -> tuple[list[str], dict[str, Any]]:
    """Give the SQL over `t` of everything but the states, and its parameters."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for name in _EQUALS:
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(f"t.{name} = %({name})s")
            values[name] = value
    if wanted.queues is not None:
        conditions.append("t.queue = ANY(%(queues)s)" if wanted.queues else "false")
        values["queues"] = list(wanted.queues)
    if wanted.tags:
        conditions.append("t.tags @> %(tags)s::varchar[] AND t.tags <> '{}'")  # as the index says
        values["tags"] = list(wanted.tags)
    if wanted.blocked_by is not None:
        conditions.append("split_part(t.blocked_by, '/', 1) = %(blocked_by)s")
        values["blocked_by"] = wanted.blocked_by
    least, most = _id_bounds(wanted)
    if least > 0:
        conditions.append("t.id >= %(least)s")
        values["least"] = uuid.UUID(int=least)
    if most < _MAX_ID:
        conditions.append("t.id <= %(most)s")
        values["most"] = uuid.UUID(int=max(most, 0))
    return conditions, values


def _id_bounds(wanted: TaskFilter) -> tuple[int, int]:
    least, most = 0, _MAX_ID
    if wanted.created_after is not None:
        least = _first_id_at(wanted.created_after)
    if wanted.created_before is not None:
        most = _first_id_at(wanted.created_before) - 1
    if wanted.id_prefix is not None:
        digits = wanted.id_prefix
        least = max(least, int(digits.ljust(32, "0"), 16))
        most = min(most, int(digits.ljust(32, "f"), 16))
    return least, most


def _first_id_at(instant: datetime) -> int:
    milliseconds = min(max(int(instant.timestamp() * 1000), 0), (1 << 48) - 1)
    return milliseconds << 80


def _placed(order: TaskOrder, *, is_down: bool, values: dict[str, Any]) -> list[str]:
    if order.place is None:
        return []
    sign = "<" if is_down else ">"
    values["place"] = order.place.id
    if order.by == "created_at":
        return [f"t.id {sign} %(place)s"]
    values["place_at"] = order.place.at
    return [f"(t.finished_at, t.id) {sign} (%(place_at)s, %(place)s)"]
