"""Reads where one tenant has all tasks and almost all of them wait: the planner takes an index
without tenant or state for as good, and would read every task in search of a state that has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tasks_app.models import Task
from tasks_app.selectors import (
    Place,
    TaskFilter,
    TaskOrder,
    canaries,
    count_query,
    list_query,
    measures,
    task_rows,
)
from tasks_app.selectors.lists import GATHER_CAP
from tests.factories import make_tenant
from tests.integration.test_query_plans import _FILL, check_plan

pytestmark = pytest.mark.django_db
ROWS = 50_000
PARKED_BY_RATE = 3
FEW, MORE = 2_000, 1_000
PENDING = ("blocked", "dispatched", "queued", "retrying", "scheduled")


@pytest.fixture(scope="module")
def tenant_id(django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        found = make_tenant("plans-alone").id
        cursor.execute(_FILL, {"big": found, "mid": found, "small": found, "rows": ROWS})
        cursor.execute("DELETE FROM taskmill_task WHERE state IN ('running', 'retrying')")
        cursor.execute(
            "UPDATE taskmill_task SET finished_at = NULL, blocked_by = 'slots/key/1/k',"
            " state = CASE WHEN type = 'type.1' THEN 'blocked' ELSE 'queued' END"
            " WHERE finished_at IS NOT NULL"
        )
        cursor.execute(
            "UPDATE taskmill_task SET blocked_by = 'rate/type/0/type.1' WHERE id IN ("
            " SELECT id FROM taskmill_task WHERE state = 'blocked' ORDER BY id LIMIT %s)",
            [PARKED_BY_RATE],
        )
        for queue, number in (("many", GATHER_CAP + MORE), ("few", FEW)):
            cursor.execute(
                "UPDATE taskmill_task SET queue = %s WHERE id IN (SELECT id FROM taskmill_task"
                " WHERE state IN ('queued', 'blocked') ORDER BY id LIMIT %s)",
                [queue, number],
            )
        cursor.execute("CLUSTER taskmill_task USING taskmill_task_pkey")
        cursor.execute("VACUUM ANALYZE taskmill_task")
        yield found
        cursor.execute("TRUNCATE taskmill_task, taskmill_tenant CASCADE")


def test_counts_for_metrics_search_no_further_than_the_states_that_have_tasks(
    tenant_id: int,
) -> None:
    caps: dict[str, Any] = {"queues": 500, "cap": 2_000}
    check_plan(measures._BY_TENANT, caps, most=ROWS // 5)


@pytest.mark.parametrize("slug", ["nobody", "plans-idle"])
def test_canaries_that_were_never_sent_are_not_searched_for(tenant_id: int, slug: str) -> None:
    make_tenant("plans-idle")
    check_plan(canaries._SEEN, {"slug": slug, "cap": canaries.SEEN_CAP}, most=50)


def test_a_few_parked_by_a_rate_are_listed_and_counted_beside_many_parked_by_slots(
    tenant_id: int,
) -> None:
    wanted = TaskFilter(states=("blocked",), blocked_by="rate")
    check_plan(*list_query(tenant_id=tenant_id, wanted=wanted, order=TaskOrder()), most=60)
    check_plan(*count_query(tenant_id=tenant_id, wanted=wanted), most=20)
    with connection.cursor() as cursor:
        cursor.execute(*count_query(tenant_id=tenant_id, wanted=wanted))
        assert cursor.fetchone()[0] == PARKED_BY_RATE


@pytest.mark.parametrize("is_descending", [True, False])
@pytest.mark.parametrize(("queue", "is_few", "most"), [("few", True, 1_500), ("many", False, 260)])
def test_the_oldest_of_a_queue_are_listed_without_passing_over_the_newer_of_another(
    tenant_id: int, queue: str, is_few: bool, most: int, is_descending: bool
) -> None:
    wanted = TaskFilter(states=PENDING, queues=(queue, "nobody"))
    order = TaskOrder(is_descending=is_descending)
    check_plan(
        *list_query(tenant_id=tenant_id, wanted=wanted, order=order, is_few=is_few), most=most
    )
    rows, _ = task_rows(tenant_id=tenant_id, wanted=wanted, order=order)
    tasks = Task.objects.filter(queue=queue).order_by("-id" if is_descending else "id")
    assert [row["id"] for row in rows] == list(tasks.values_list("id", flat=True)[:50])
    place = TaskOrder(is_descending=is_descending, place=Place(id=rows[-1]["id"]))
    following, _ = task_rows(tenant_id=tenant_id, wanted=wanted, order=place)
    assert [row["id"] for row in following] == list(tasks.values_list("id", flat=True)[50:100])
