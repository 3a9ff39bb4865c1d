"""The admin's list of tasks reads by index alone, and few pages of it, however full the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.many_tasks import insert_many_tasks

pytestmark = pytest.mark.django_db
ROWS = 200_000
MAX_BUFFERS = 6_000
QUERIES = (
    "",
    "p=40",
    "state=failed",
    "state=dead",
    "state=success",
    "state=pending",
    "state=running",
    "state=scheduled",
    "type=tests.nothing",
    "type=demo.echo",
    "type=demo.unknown",
    "queue=mail",
    "queue=unknown",
    "submitted=hour",
    "submitted=day&state=failed",
    "state=failed&type=tests.nothing&queue=mail",
    "q=demo.slow",
    "q=0199",
)


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


def explained(statement: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement)
        found = cursor.fetchone()[0]
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def test_every_filter_of_the_list_is_served_by_an_index(admin_client: Client) -> None:
    insert_many_tasks(ROWS)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM taskmill_tenant ORDER BY id LIMIT 1")
        tenant = cursor.fetchone()[0]
    for query in (*QUERIES, f"tenant={tenant}", f"tenant={tenant}&state=failed"):
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert admin_client.get(f"/admin/tasks_app/task/?{query}").status_code == 200
        statements = [one["sql"] for one in captured if "taskmill_task" in one["sql"]]
        assert statements, query
        for statement in statements:
            plan = explained(statement)
            scans = {node["Node Type"] for node in nodes_of(plan) if _is_of_tasks(node)}
            assert "Seq Scan" not in scans, (query, statement)
            buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert buffers < MAX_BUFFERS, (query, buffers, statement)


def _is_of_tasks(node: dict[str, Any]) -> bool:
    return node.get("Relation Name") == "taskmill_task"
