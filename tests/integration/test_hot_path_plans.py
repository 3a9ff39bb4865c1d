"""The statements that run once per task find it by its key, whatever the statistics say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.db import KEYED
from tasks_app.transitions import claiming, deciding, flows, limiting, working
from tests.factories import make_task, make_tenant

pytestmark = pytest.mark.django_db

TASKS = 300


def plan_of(cursor: Any, statement: str, values: dict[str, Any]) -> str:
    cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
    return json.dumps(cursor.fetchone()[0])


def kept_plan(cursor: Any, statement: str) -> str:
    """The plan that a worker's connection keeps: made without knowing a value."""
    names: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return names.setdefault(found[1], f"${len(names) + 1}")

    for name, value in KEYED.items():
        cursor.execute(f"SET LOCAL {name} = {value}")
    text = re.sub(r"%\((\w+)\)s", numbered, statement)
    cursor.execute(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {text}")
    return json.dumps(cursor.fetchone()[0])


def hand_out(tenant_id: int) -> list[transitions.DispatchedTask]:
    """Submit and dispatch tasks of ten keys; the statistics are of the time between."""
    new = [
        transitions.NewTask(
            tenant_id=tenant_id,
            type="demo.echo",
            queue="default",
            payload={},
            max_retry=0,
            process_timeout=60,
            concurrency_key=f"key-{number % 10}",
            max_concurrency=TASKS,
        )
        for number in range(TASKS)
    ]
    with connection.cursor() as cursor:
        transitions.insert_tasks(cursor, new)
        cursor.execute("ANALYZE taskmill_task")
        return transitions.dispatch(cursor, queue="default", room=TASKS)[0]


@pytest.fixture
def dispatched(db: None) -> int:
    """Many dispatched tasks after as many finished ones; gives their tenant."""
    tenant = make_tenant("hot-path")
    hints = [(one.id, one.dispatch_seq) for one in hand_out(tenant.id)]
    with connection.cursor() as cursor:
        claims = transitions.claim(cursor, hints, owner="w", worker="w", lease_seconds=60)
        ended = [transitions.Success(id=one.id, epoch=1, result="null") for one in claims]
        assert len(transitions.succeed(cursor, ended)) == TASKS
    assert len(hand_out(tenant.id)) == TASKS
    return tenant.id


def test_the_slots_of_a_key_are_counted_by_the_key(dispatched: int) -> None:
    keys: dict[str, Any] = {"tenants": [dispatched], "keys": ["key-1"], "types": ["demo.echo"]}
    with connection.cursor() as cursor:
        plan = plan_of(cursor, limiting._LIMITS, keys)
    assert "task_slots" in plan
    assert "task_under_way" not in plan


def test_a_claim_finds_its_rows_by_the_key(dispatched: int) -> None:
    with connection.cursor() as cursor:
        plan = kept_plan(cursor, claiming._CLAIM)
    assert plan.count("taskmill_task_pkey") == 2
    assert "task_dispatched" not in plan


@pytest.mark.parametrize("statement", [working._SUCCEED, working._INTERRUPT])
def test_a_finish_finds_its_rows_by_the_key(dispatched: int, statement: str) -> None:
    with connection.cursor() as cursor:
        plan = kept_plan(cursor, statement)
    assert plan.count("taskmill_task_pkey") == 2
    assert "task_leases" not in plan
    assert "task_run_deadline" not in plan


@pytest.mark.django_db(transaction=True)
def test_what_is_parked_by_a_rule_is_found_by_the_index_whatever_the_statistics_say() -> None:
    tenant = make_tenant()
    with connection.cursor() as cursor:
        for _ in range(50):
            make_task(tenant, state="dispatched")
        cursor.execute("ANALYZE taskmill_task")
        for number in range(100):
            make_task(tenant, state="blocked", concurrency_key=f"k{number % 9}", max_concurrency=1)
        used = scans(cursor, "task_blocked"), scans(cursor, "task_late_by_queue")
        cursor.execute("SELECT count(*) FROM taskmill_parked_by(ARRAY['slots/key/0/k1', 'a'])")
        now = scans(cursor, "task_blocked"), scans(cursor, "task_late_by_queue")
    assert (now[0] - used[0], now[1] - used[1]) == (2, 0)


@pytest.mark.django_db(transaction=True)
def test_a_finish_of_many_asks_once_what_is_parked() -> None:
    tenant = make_tenant()
    two: list[dict[str, Any]] = [{"concurrency_key": name, "max_concurrency": 9} for name in "ab"]
    for parked, rules, probes in ((0, [{}], 0), (0, two, 1), (1, two, 3)):
        for _ in range(parked):
            make_task(tenant, state="blocked", concurrency_key="c", max_concurrency=1)
        tasks = [make_task(tenant, state="running", **rules[n % len(rules)]) for n in range(5)]
        with connection.cursor() as cursor:
            used = scans(cursor, "task_blocked")
            ended = [transitions.Success(id=task_id, epoch=1, result="null") for task_id in tasks]
            assert len(transitions.succeed(cursor, ended)) == 5
            assert scans(cursor, "task_blocked") - used == probes


def scans(cursor: Any, index: str) -> int:
    """Count the scans of an index so far."""
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s", [index])
    return int(cursor.fetchone()[0])


def test_flows_are_found_and_picked_by_their_index_though_one_has_nearly_all(db: None) -> None:
    noisy, quiet = make_tenant("noisy"), make_tenant("quiet")
    new = [
        transitions.NewTask(
            tenant_id=tenant.id, type="t", queue="q", payload={}, max_retry=0, process_timeout=60
        )
        for tenant, count in ((noisy, 3000), (quiet, 1))
        for _ in range(count)
    ]
    find: dict[str, Any] = {"queue": "q", "below": flows.ABOVE_ALL, "after": -1, "of_each": 16}
    find |= {"passed_over": []}
    pick: dict[str, Any] = {"queue": "q", "priority": 0, "tenants": [noisy.id, quiet.id]}
    with connection.cursor() as cursor:
        transitions.insert_tasks(cursor, new[:-1])
        cursor.execute("ANALYZE taskmill_task")
        transitions.insert_tasks(cursor, new[-1:])
        found = plan_of(cursor, flows._FIND, find | {"tenants": 32, "of": [], "keys": []})
        picked = plan_of(
            cursor, deciding._PICK_OF_FLOWS, pick | {"keys": ["", ""], "takes": [9, 9]}
        )
    for plan in (found, picked):
        assert "task_flows" in plan
        assert "task_list" not in plan
    assert "task_ready" not in picked
