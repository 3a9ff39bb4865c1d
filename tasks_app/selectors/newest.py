"""The newest tasks of several tenants, for operators.

The list indexes begin with the tenant, so a filter is answered by bounded index scans per tenant,
one for each part of its tasks, merged; only without any filter does the primary key, UUIDv7, give
the order. Nothing is ever counted.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from tasks_app.selectors.lists import TaskFilter, conditions_of
from tasks_app.selectors.parts import parts_of


def newest_task_ids(
    *, tenant_ids: Sequence[int] | None, wanted: TaskFilter, limit: int
) -> list[uuid.UUID]:
    """Give the ids of the newest tasks that fit, newest first.

    Args:
        tenant_ids: whose tasks; None for all tenants'.
        limit: most ids, at least 1. The cost grows with it, times the number of tenants.
    """
    query, values = newest_query(tenant_ids=tenant_ids, wanted=wanted, limit=limit)
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return [row[0] for row in cursor.fetchall()]


def newest_query(
    *, tenant_ids: Sequence[int] | None, wanted: TaskFilter, limit: int
) -> tuple[str, dict[str, Any]]:
    """Give the statement and its parameters; public for the test of its plan."""
    conditions, values = conditions_of(wanted)
    values["limit"] = limit
    is_by_key = tenant_ids is None and not (wanted.states or wanted.type or wanted.queue)
    if is_by_key:
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        by_key = f"SELECT t.id FROM taskmill_task t {where} ORDER BY t.id DESC LIMIT %(limit)s"  # noqa: S608 - built from constants
        return by_key, values
    source = "taskmill_tenant n" if tenant_ids is None else "unnest(%(tenants)s::bigint[]) n(id)"
    values["tenants"] = list(tenant_ids or ())
    where = " AND ".join(["t.tenant_id = n.id", *conditions])
    branches = " UNION ALL ".join(
        f"(SELECT t.id FROM taskmill_task t WHERE {where} AND {part}"  # noqa: S608 - built from constants
        " ORDER BY t.id DESC LIMIT %(limit)s)"
        for part in parts_of(wanted.states)
    )
    query = f"""
        SELECT p.id FROM {source} CROSS JOIN LATERAL ({branches}) p
        ORDER BY p.id DESC LIMIT %(limit)s
    """  # noqa: S608 - built from constants
    return query, values
