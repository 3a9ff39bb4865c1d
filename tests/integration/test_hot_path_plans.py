"""The statements that run once per task find it by its key, whatever the statistics say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.transitions import working
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

TASKS = 300
WORKER = {"owner": "owner", "worker": "worker", "lease_seconds": 15.0}


def plan_of(cursor: Any, statement: str, values: dict[str, Any]) -> str:
    cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
    return json.dumps(cursor.fetchone()[0])


@pytest.fixture
def dispatched(db: None) -> list[transitions.DispatchedTask]:
    """Many dispatched tasks, while the statistics are of the time before."""
    tenant = make_tenant("hot-path")
    new = [
        transitions.NewTask(
            tenant_id=tenant.id,
            type="demo.echo",
            queue="default",
            payload={},
            max_retry=0,
            process_timeout=60,
        )
        for _ in range(TASKS)
    ]
    with connection.cursor() as cursor:
        transitions.insert_tasks(cursor, new)
        cursor.execute("ANALYZE taskmill_task")
        return transitions.dispatch(cursor, queue="default", room=TASKS)[0]


def test_a_claim_finds_its_row_by_the_key(dispatched: list[transitions.DispatchedTask]) -> None:
    values = {"id": dispatched[0].id, "seq": 1, "owner": "o", "worker": "w", "lease": 15.0}
    with connection.cursor() as cursor:
        plan = plan_of(cursor, working._CLAIM, values)
    assert "taskmill_task_pkey" in plan
    assert "task_dispatched" not in plan


def test_a_finish_finds_its_row_by_the_key(dispatched: list[transitions.DispatchedTask]) -> None:
    with connection.cursor() as cursor:
        for hint in dispatched:
            assert transitions.claim(cursor, hint.id, dispatch_seq=hint.dispatch_seq, **WORKER)
        plan = plan_of(
            cursor, working._SUCCEED, {"id": dispatched[0].id, "epoch": 1, "result": "{}"}
        )
    assert "taskmill_task_pkey" in plan
    assert "task_leases" not in plan
    assert "task_run_deadline" not in plan
