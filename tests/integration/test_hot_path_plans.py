"""The statements that run once per task find it by its key, whatever the statistics say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.transitions import claiming, working
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

TASKS = 300


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


def hints_of(tasks: list[transitions.DispatchedTask]) -> list[transitions.Hint]:
    return [(task.id, task.dispatch_seq) for task in tasks]


@pytest.mark.parametrize("count", [1, 100])
def test_a_claim_finds_its_rows_by_the_key(
    dispatched: list[transitions.DispatchedTask], count: int
) -> None:
    chosen = hints_of(dispatched[:count])
    values = {"ids": [one[0] for one in chosen], "seqs": [one[1] for one in chosen]}
    with connection.cursor() as cursor:
        plan = plan_of(
            cursor, claiming._CLAIM, values | {"owner": "o", "worker": "w", "lease": 15.0}
        )
    assert plan.count("taskmill_task_pkey") == 2
    assert "task_dispatched" not in plan


@pytest.mark.parametrize("count", [1, 100])
def test_a_finish_finds_its_rows_by_the_key(
    dispatched: list[transitions.DispatchedTask], count: int
) -> None:
    with connection.cursor() as cursor:
        claims = transitions.claim(
            cursor, hints_of(dispatched), owner="o", worker="w", lease_seconds=15
        )
        ids = [claim.id for claim in claims[:count]]
        numbers = [1] * count
        values = {"ids": ids, "epochs": numbers, "results": ["{}"] * count}
        plan = plan_of(cursor, working._SUCCEED, values | {"began": numbers, "took": numbers})
    assert plan.count("taskmill_task_pkey") == 2
    assert "task_leases" not in plan
    assert "task_run_deadline" not in plan
