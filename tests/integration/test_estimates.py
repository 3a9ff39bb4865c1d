"""Where a waiting task stands and when it will start: exact by the pace, and measured at work."""

from __future__ import annotations

import statistics
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app.conf import conf
from tasks_app.dispatch.loop import make_work
from tasks_app.models import QueuePace, Task
from tasks_app.selectors import estimates, waiting_reasons
from tasks_app.services.caller import Caller
from tasks_app.services.queues import change_queue, pause_queue, resume_queue
from tests.engines import new_queue, running_loop
from tests.factories import make_task, make_tenant, make_worker
from tests.processes import running_worker, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
TASKS = 160


@pytest.fixture
def queue() -> str:
    return new_queue()


def now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT taskmill_now()")
        found: datetime = cursor.fetchone()[0]
    return found


def measured(queue: str, starts_per_second: float, *, age: float = 0.0) -> None:
    QueuePace.objects.update_or_create(
        queue=queue,
        defaults={
            "starts_per_second": starts_per_second,
            "measured_at": now() - timedelta(seconds=age),
        },
    )


def behind(task_id: Any) -> dict[str, Any] | None:
    tenant_id = Task.objects.get(id=task_id).tenant_id
    reasons = waiting_reasons(tenant_id=tenant_id, task_id=task_id) or []
    return next((one for one in reasons if one["reason"] == "behind"), None)


def test_an_estimate_is_what_goes_first_by_the_pace_of_the_queue(queue: str) -> None:
    make_worker(queue)
    for _ in range(4):
        make_task(queue=queue, state="dispatched")
    *_, last = [make_task(queue=queue) for _ in range(11)]
    make_task(queue=queue, priority=-1)
    assert behind(last) == {"reason": "behind", "position": 14, "estimated_start": None}
    measured(queue, 2.0)
    before, found, after = now(), behind(last), now()
    assert found is not None
    seven = timedelta(seconds=7)
    assert before + seven <= found["estimated_start"] <= after + seven


def test_there_is_no_estimate_without_a_fresh_pace_or_where_something_else_holds_the_task(
    queue: str,
) -> None:
    caller = Caller(tenant_id=make_tenant("acme").id, actor="api:tests")
    first, last = make_task(queue=queue), make_task(queue=queue)

    def is_estimated() -> bool:
        found = behind(last)
        assert found is not None
        return found["estimated_start"] is not None

    measured(queue, 2.0)
    assert not is_estimated(), "no worker"
    make_worker(queue)
    assert is_estimated()
    assert behind(first) is None
    pause_queue(caller=caller, name=queue)
    assert not is_estimated(), "paused"
    resume_queue(caller=caller, name=queue)
    measured(queue, 0.0)
    assert not is_estimated(), "nothing starts"
    measured(queue, 2.0, age=estimates.PACE_SECONDS + 1)
    assert not is_estimated(), "old"
    measured(queue, 2.0)
    change_queue(caller=caller, name=queue, columns={"concurrency": 1})
    make_task(queue=queue, state="running")
    assert is_estimated(), "the pace of a full queue is that of its slots"


def test_a_place_beyond_the_count_has_no_estimate(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks_app.selectors import waiting

    for module in (estimates, waiting):
        monkeypatch.setattr(module, "POSITION_CAP", 3)
    make_worker(queue)
    measured(queue, 2.0)
    tasks = [make_task(queue=queue) for _ in range(6)]
    found = [behind(one) for one in tasks]
    assert [one and one["position"] for one in found] == [None, 1, 2, 3, 3, 3]
    assert [bool(one and one["estimated_start"]) for one in found] == [False] + [True] * 2 + [
        False
    ] * 3


def test_a_task_that_is_not_ready_has_no_place(queue: str) -> None:
    make_worker(queue)
    for state in ("queued", "dispatched"):
        make_task(queue=queue, state=state)
    assert behind(make_task(queue=queue)) is not None
    for state in ("scheduled", "retrying", "blocked", "dispatched"):
        assert behind(make_task(queue=queue, state=state)) is None


def test_estimates_at_work_rise_with_the_place_and_their_error_is_printed(valkey: Any) -> None:
    tenant = make_tenant("default")
    payload = {"seconds": 0.05}
    tasks = [make_task(tenant, type="demo.slow", payload=payload) for _ in range(TASKS)]
    samples: list[tuple[Any, datetime, datetime]] = []

    def look() -> bool:
        at = now()
        found = {one: behind(one) for one in tasks[20::20]}
        starts = {one: why["estimated_start"] for one, why in found.items() if why}
        known = [(one, at, start) for one, start in starts.items() if start is not None]
        assert [start for *_, start in known] == sorted(start for *_, start in known)
        samples.extend(known)
        return not Task.objects.filter(id__in=tasks, finished_at=None).exists()

    with running_loop(make_work(), conf()), running_worker():
        wait_for(look, seconds=120)
    started = dict(Task.objects.filter(id__in=tasks).values_list("id", "started_at"))
    late = [(started[one], at, start) for one, at, start in samples if started[one] > at]
    assert len(late) >= 5
    errors = [abs((start - real) / (real - at)) for real, at, start in late]
    seconds = [abs((start - real).total_seconds()) for real, _, start in late]
    print(
        f"\n{len(late)} estimates: error at the median {statistics.median(errors):.0%} of the"
        f" wait that was left, {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
    )
    ratios = [(start - at) / (real - at) for real, at, start in late]
    assert 0.2 < statistics.median(ratios) < 5
