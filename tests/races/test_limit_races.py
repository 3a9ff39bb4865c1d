"""Limits against a second dispatch, and against ends that come while one decides."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from tasks_app import leadership, transitions
from tasks_app.db import connect
from tasks_app.models import Limit, Queue, Task
from tests.attempts import claim_one, succeed_one
from tests.engines import dispatcher, new_queue
from tests.factories import make_task, make_tenant, make_worker, task_state
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


def is_blocked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize("limit", [{"concurrency": 2}, {"rate": "2/h"}, {"max_share": 10}])
def test_slots_and_tokens_are_read_after_what_another_dispatch_took(
    valkey: Any, limit: dict[str, Any]
) -> None:
    queue, tenant = new_queue(), make_tenant()
    make_worker(queue, slots=20)
    if "max_share" in limit:
        Queue.objects.create(name=queue, **limit)
    else:
        Limit.objects.create(of="type", name="tests.echo", **limit)
    for _ in range(6):
        make_task(tenant, queue=queue)
    with dispatcher() as bench, connect("test") as other, ThreadPoolExecutor(1) as pool:
        bench.work._is_declared = True
        lead = leadership.hold(other.cursor(), loop="dispatch", holder="h", lease_seconds=60)
        assert lead is not None
        bench.lead = lead
        with other.transaction():
            lead.fence(other.cursor())
            taken, _ = transitions.dispatch(other.cursor(), queue=queue, room=1)
            second = pool.submit(bench.round)
            wait_for(lambda: is_blocked() or second.done(), seconds=20)
        counts = second.result(20).counts
    assert len(taken) == 1
    assert counts["dispatched"] == 1
    assert Task.objects.filter(queue=queue, state="dispatched").count() == 2


def test_a_task_that_somebody_changes_while_its_rules_are_read_is_left_to_them() -> None:
    queue, tenant = new_queue(), make_tenant()
    key: dict[str, Any] = {"concurrency_key": "k", "max_concurrency": 1}
    first, second = (make_task(tenant, queue=queue, **key) for _ in range(2))
    with connect("one") as dispatching, connect("two") as client:
        with client.transaction():
            transitions.request_cancel(
                client.cursor(),
                tenant_id=tenant.id,
                task_id=first,
                actor="api",
                reason="",
                grace_seconds=None,
            )
            with dispatching.transaction():
                taken, parked = transitions.dispatch(dispatching.cursor(), queue=queue, room=9)
        assert ([one.id for one in taken], parked) == ([second], 0)
    assert (task_state(first), task_state(second)) == ("cancelled", "dispatched")


def test_a_finish_while_a_dispatch_decides_frees_its_slot_for_the_next_look() -> None:
    queue, tenant = new_queue(), make_tenant()
    key: dict[str, Any] = {"concurrency_key": "k", "max_concurrency": 1}
    make_task(tenant, queue=queue, **key)
    with connect("one") as dispatching, connect("two") as worker:
        [hint], _ = transitions.dispatch(dispatching.cursor(), queue=queue, room=1)
        claim = claim_one(worker.cursor(), (hint.id, hint.dispatch_seq))
        assert claim is not None
        follower = make_task(tenant, queue=queue, **key)
        with dispatching.transaction():
            assert transitions.dispatch(dispatching.cursor(), queue=queue, room=9) == ([], 1)
            assert succeed_one(worker.cursor(), hint.id, epoch=claim.epoch)
        assert transitions.unblock(dispatching.cursor()).count == 1
        [again], _ = transitions.dispatch(dispatching.cursor(), queue=queue, room=9)
    assert again.id == follower
