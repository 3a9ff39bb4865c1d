"""Every list of the API and every query of the engine reads an index, at 100,000 tasks."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from tasks_app.dispatch import backlog
from tasks_app.feed import reading
from tasks_app.maintenance import canary, paced_retry, prune
from tasks_app.models import Queue, QueueOrder, Task, Tenant
from tasks_app.relay import loop as relay
from tasks_app.selectors import (
    Place,
    TaskFilter,
    TaskOrder,
    canaries,
    count_query,
    dead_letters,
    estimates,
    history,
    holders,
    list_query,
    queues,
    quotas,
    serving,
    shares,
    task_types,
    tasks,
    waiting,
)
from tasks_app.selectors.dead_letters import DeadLetterFilter
from tasks_app.services import lineage
from tasks_app.services import queues as steering
from tasks_app.transitions import (
    NewTask,
    deciding,
    dispatching,
    displacing,
    flows,
    leases,
    limiting,
    operating,
    purging,
    recovering,
    strategies,
    unblocking,
)
from tests import query_plans
from tests.factories import make_task, make_tenant, make_worker

pytestmark = pytest.mark.django_db

ROWS = 100_000
MOST_BUFFERS = 4_000
LARGE = ("taskmill_task", "taskmill_event", "taskmill_feed")

_SHARES = """
    CASE WHEN n %% 100 < 90 THEN 'success' WHEN n %% 100 < 94 THEN 'failed'
         WHEN n %% 100 < 95 THEN 'timeout' WHEN n %% 100 < 96 THEN 'cancelled'
         WHEN n %% 1000 < 985 THEN 'queued' WHEN n %% 1000 < 988 THEN 'scheduled'
         WHEN n %% 1000 < 990 THEN 'retrying' WHEN n %% 1000 < 992 THEN 'blocked'
         WHEN n %% 1000 < 994 THEN 'dispatched' WHEN n %% 1000 < 998 THEN 'running'
         ELSE 'error' END
"""
_FILL = f"""
INSERT INTO taskmill_task (id, tenant_id, type, queue, priority, state, version, event_seq, payload,
    metadata, tags, progress, progress_message, max_retry, attempt, attempt_base, epoch, rescues,
    interrupts, sweeps, hand_backs, dispatch_seq, created_at, updated_at, run_at, queued_at,
    dispatched_at, started_at, finished_at, process_timeout, queue_timeout, queue_deadline,
    run_deadline, lease_owner, lease_expires_at, worker, cancel_requested_by, cancel_reason,
    concurrency_key, max_concurrency, blocked_by, schedule, traceparent, submitted_by)
SELECT (lpad(to_hex((extract(epoch FROM made) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    tenant, 'type.' || n %% 20, 'queue-' || n %% 5, n %% 3, state, 1, 1, '{{}}', '{{}}',
    CASE WHEN n %% 1000 = 0 THEN ARRAY['rare', 'any'] ELSE ARRAY['any'] END, 0, '', 3,
    1, 0, 1, 0, 0, 0, 0, 1, made, made,
    CASE WHEN state IN ('scheduled', 'retrying') THEN now() + interval '1 day' ELSE made END, made,
    CASE WHEN state = 'dispatched' THEN now() END, made,
    CASE WHEN is_done THEN made + interval '1 s' END, 600, 60,
    CASE WHEN state = 'queued' THEN now() + interval '1 hour' END,
    CASE WHEN state = 'running' THEN now() + interval '1 hour' END,
    CASE WHEN state = 'running' THEN 'w' END,
    CASE WHEN state = 'running' THEN now() + interval '1 hour' END, '', '', '',
    CASE WHEN n %% 50 = 0 THEN 'key-' || n %% 7 END, CASE WHEN n %% 50 = 0 THEN 5 END,
    CASE WHEN state = 'blocked' THEN 'slots/key/' || tenant || '/key-' || n %% 7 END,
    CASE WHEN n %% 500 = 0 THEN 'nightly' END, '', ''
FROM (SELECT n, {_SHARES} AS state,
        CASE WHEN n %% 10 < 8 THEN %(big)s WHEN n %% 10 = 8 THEN %(mid)s
            ELSE %(small)s END AS tenant,
        now() - (%(rows)s - n) * interval '1 s' AS made,
        n %% 100 < 96 OR n %% 1000 >= 998 AS is_done
      FROM generate_series(1, %(rows)s) n) s
"""


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, int]]:
    with django_db_blocker.unblock():
        names = ("plans-big", "plans-mid", "plans-small")
        tenants = dict(
            zip(("big", "mid", "small"), (make_tenant(n).id for n in names), strict=True)
        )
        with connection.cursor() as cursor:
            cursor.execute(_FILL, tenants | {"rows": ROWS})
            cursor.execute(
                "INSERT INTO taskmill_event (task_id, tenant_id, seq, type, state, epoch, attempt,"
                " at, actor) SELECT id, tenant_id, 1, 'task.created', 'queued', 0, 0, created_at,"
                " '' FROM taskmill_task"
            )
            cursor.execute(
                "INSERT INTO taskmill_feed SELECT g * 10 + 1, g * 10 + 10,"
                " array_agg(id ORDER BY id), min(id), max(id), now(), max(id), '{}', '{}' FROM ("
                " SELECT id, (row_number() OVER (ORDER BY id) - 1) / 10 AS g FROM taskmill_event)"
                " e GROUP BY g"
            )
            cursor.execute(
                "INSERT INTO taskmill_event (subject, seq, type, state, epoch, attempt, at, actor,"
                " data) SELECT 'w' || n, 1, 'worker.online', '', 0, 0,"
                " now() - n * interval '1 s', '', '{}' FROM generate_series(1, 5000) n"
            )
            cursor.execute("VACUUM ANALYZE taskmill_feed")
            cursor.execute("VACUUM ANALYZE taskmill_task")
            cursor.execute("VACUUM ANALYZE taskmill_event")
        yield tenants
        with connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE taskmill_task, taskmill_event, taskmill_feed, taskmill_tenant CASCADE"
            )


def check_plan(query: str, values: dict[str, Any], *, most: int = MOST_BUFFERS) -> None:
    query_plans.check_plan(query, values, most=most, large=LARGE)


def test_a_plan_without_an_index_is_noticed(filled: dict[str, int]) -> None:
    with pytest.raises(AssertionError, match="Seq Scan"):
        check_plan("SELECT id FROM taskmill_task WHERE worker = 'x'", {})


PENDING = ("blocked", "dispatched", "queued", "retrying", "scheduled")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILTERS = {
    "none": TaskFilter(),
    "pending": TaskFilter(states=PENDING),
    "processing": TaskFilter(states=("cancelling", "running")),
    "success": TaskFilter(states=("success",)),
    "failed": TaskFilter(states=("failed",)),
    "error": TaskFilter(states=("error",)),
    "cancelled": TaskFilter(states=("cancelled",)),
    "type": TaskFilter(type="type.3"),
    "absent type": TaskFilter(type="type.none"),
    "queue": TaskFilter(queue="queue-3"),
    "absent queue": TaskFilter(queue="none"),
    "rare tag": TaskFilter(tags=("rare",)),
    "common tag": TaskFilter(tags=("any",)),
    "absent tag": TaskFilter(tags=("none",)),
    "key": TaskFilter(concurrency_key="key-3"),
    "of queues": TaskFilter(states=PENDING, queues=("queue-1", "queue-3")),
    "of no queue": TaskFilter(states=PENDING, queues=()),
    "parked by slots": TaskFilter(states=("blocked",), blocked_by="slots"),
    "absent key": TaskFilter(concurrency_key="none"),
    "schedule": TaskFilter(schedule="nightly"),
    "absent parent": TaskFilter(parent=uuid.UUID(int=1)),
    "after": TaskFilter(created_after=NOW),
    "before": TaskFilter(created_before=NOW),
    "id": TaskFilter(id_prefix="019"),
}
ORDERS = {
    "newest": TaskOrder(),
    "oldest": TaskOrder(is_descending=False),
    "deep": TaskOrder(offset=10_000, limit=200),
    "cursor": TaskOrder(place=Place(id=uuid.UUID(int=1 << 125))),
    "ended": TaskOrder(by="finished_at"),
    "ended first": TaskOrder(by="finished_at", is_descending=False),
}


@pytest.mark.parametrize("tenant", ["big", "small"])
@pytest.mark.parametrize("wanted", FILTERS)
def test_every_filter_of_the_list_reads_an_index(
    filled: dict[str, int], tenant: str, wanted: str
) -> None:
    check_plan(*list_query(tenant_id=filled[tenant], wanted=FILTERS[wanted], order=TaskOrder()))


@pytest.mark.parametrize("wanted", ["pending", "of queues", "of no queue", "parked by slots"])
def test_every_count_of_what_waits_reads_an_index(filled: dict[str, int], wanted: str) -> None:
    check_plan(*count_query(tenant_id=filled["big"], wanted=FILTERS[wanted]))


@pytest.mark.parametrize("tenant", ["big", "small"])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_of_the_list_reads_an_index(
    filled: dict[str, int], tenant: str, order: str
) -> None:
    chosen = ORDERS[order]
    most = 30_000 if chosen.offset else MOST_BUFFERS
    query = list_query(tenant_id=filled[tenant], wanted=TaskFilter(), order=chosen)
    check_plan(*query, most=most)


def one_task(state: str) -> Task:
    found = Task.objects.filter(state=state).order_by("-id").first()
    assert found is not None
    return found


def test_the_reads_of_one_task_read_an_index(filled: dict[str, int]) -> None:
    task = one_task("queued")
    values: dict[str, Any] = {"id": task.id, "tenant": task.tenant_id}
    check_plan(tasks._ONE, values, most=100)
    check_plan(tasks._MANY, {"ids": [task.id], "tenant": task.tenant_id}, most=100)
    check_plan(history._EVENTS, values | {"after": 0, "limit": 100}, most=100)
    check_plan(history._ATTEMPTS, values, most=100)
    place = {"epoch": 0, "number": 0, "place": 0, "attempt": None, "levels": None, "limit": 9}
    check_plan(history._LOGS, values | place, most=100)
    check_plan(
        waiting._WHY, values | {"lost_after": 15, "holders": 20, "free_slot_of": 8, "cap": 10_000}
    )
    level = {"queue": task.queue, "priority": 0, "keys": [""], "most": [100]}
    check_plan(shares._COUNTS, level | {"tenants": [task.tenant_id]}, most=300)
    place = {"queue": task.queue, "ahead": 5, "cap": 10_000, "fresh": 900.0}
    check_plan(estimates._PLACE, place, most=1_000)
    sample = {"tenant": filled["big"], "type": "type.3", "sample": 1000}
    check_plan(task_types._SAMPLE, sample)


def test_admission_reads_an_index(filled: dict[str, int]) -> None:
    tenant = filled["big"]
    Tenant.objects.filter(pk=tenant).update(max_waiting=500, max_waiting_bytes=1 << 40)
    Queue.objects.create(name="queue-3", max_waiting=500)
    check_plan(quotas.USED, {"tenants": [tenant], "queues": ["queue-3"]})
    check_plan(lineage.CHILDREN, {"tenant": tenant, "parent": uuid.UUID(int=1), "most": 9}, most=50)
    keys: dict[str, Any] = {"tenant": tenant, "key": "k", "type": "type.3"}
    check_plan(holders._ACTIVE, keys, most=50)
    check_plan(holders._DEBOUNCED, keys, most=50)
    newer = NewTask(
        tenant_id=tenant, type="type.3", queue="q", payload={}, max_retry=0, process_timeout=1
    )
    check_plan(displacing._DEBOUNCE, displacing.values_of(newer), most=50)


def test_dead_letters_read_an_index(filled: dict[str, int]) -> None:
    wanted = DeadLetterFilter()
    query = (
        f"SELECT t.id FROM taskmill_task t WHERE {wanted.conditions()}"
        " ORDER BY t.finished_at DESC, t.id DESC LIMIT 50"
    )
    check_plan(query, wanted.values(filled["big"]))


def test_a_group_of_dead_letters_reads_the_index_of_causes(filled: dict[str, int]) -> None:
    tenant_id = filled["big"]
    found, _ = dead_letters.dead_letters_by_cause(tenant_id=tenant_id, wanted=DeadLetterFilter())
    wanted = DeadLetterFilter(group_id=found[0]["id"])
    query = (
        f"SELECT t.id FROM taskmill_task t WHERE {wanted.conditions()}"
        " ORDER BY t.finished_at DESC, t.id DESC LIMIT 50"
    )
    check_plan(query, wanted.values(tenant_id), most=100)
    place = {"until": datetime.now(tz=UTC), "room": 50, "place_at": None, "place_id": None}
    carried_on = paced_retry._NEXT.format(conditions=wanted.conditions())
    check_plan(carried_on, wanted.values(tenant_id) | place, most=100)


def test_dead_letters_of_one_cause_need_no_sort(filled: dict[str, int]) -> None:
    wanted = DeadLetterFilter(group_id="0" * 16)
    with connection.cursor() as cursor:
        cursor.execute(
            f"EXPLAIN SELECT t.id FROM taskmill_task t WHERE {wanted.conditions()}"
            " ORDER BY t.finished_at, t.id LIMIT 50",
            wanted.values(filled["big"]),
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "task_dead_cause" in plan
    assert "Sort" not in plan


PAGE = {"after": 50_000, "until": 50_200, "tenant": None}
FEED: dict[str, tuple[str, dict[str, Any]]] = {
    "bounds": (reading.BOUNDS, {}),
    "page": (reading.PAGE, PAGE | {"types": None, "tasks": None}),
    "page of what is watched": (reading.PAGE, PAGE | {"types": ["task.created"]}),
    "page of tasks": (reading.PAGE_OF_TASKS, {"after": 10, "until": ROWS, "limit": 100}),
    "last of a task": (reading._LAST_OF_TASK, {}),
    "find": (relay._FIND, {"seen": ROWS - 50, "lows": [5, 90], "highs": [9, 99], "limit": 2000}),
    "resume": (relay._RESUME, {}),
    "prune": (prune._PRUNE_FEED, {"limit": 500, "age": 3600.0}),
}


@pytest.mark.parametrize("name", FEED)
def test_every_look_at_the_feed_reads_an_index(filled: dict[str, int], name: str) -> None:
    query, values = FEED[name]
    task = one_task("queued")
    more = {"id": task.id, "tasks": [task.id], "tenant": task.tenant_id}
    check_plan(query, more | values, most=3_000)


BOARD = {
    "names": queues._IN_USE,
    "is queue": queues._IS_IN_USE,
    "ready": queues._MINE,
    "ready for operators": queues._EVERYBODYS,
    "late": queues._LATE,
    "finished": queues._FINISHED,
    "running": queues._RUNNING,
    "active": queues._ACTIVE,
    "to clean": steering._OLD,
}


@pytest.mark.parametrize("name", BOARD)
@pytest.mark.parametrize("tenant", ["big", "small"])
def test_every_query_of_the_queue_board_reads_an_index(
    filled: dict[str, int], name: str, tenant: str
) -> None:
    values = {
        "tenant": filled[tenant],
        "names": [f"queue-{number}" for number in range(5)],
        "name": "queue-3",
        "state": "failed",
        "declared": ["default"],
        "most": 1_000,
        "cap": 1_000,
        "seconds": 300,
        "grace": 60.0,
    }
    check_plan(BOARD[name], values, most=12_000)


def test_what_shares_hold_is_counted_by_the_indexes_of_queues(filled: dict[str, int]) -> None:
    names = [f"queue-{number}" for number in range(5)]
    make_worker(*names, slots=100)
    Queue.objects.bulk_create([Queue(name=name, max_share=1) for name in names[:2]])
    values = {"lost_after": 15.0, "free_slot_of": 8, "names": names, "cap": 20_000}
    check_plan(serving._HELD_BY_SHARES, values, most=3_000)
    found = serving.held_by_shares(names, cap=20_000)
    ready = Task.objects.filter(state="queued", queue__in=names[:2])
    counts = Counter(ready.values_list("queue", flat=True))
    assert found == counts
    assert serving.held_by_shares(names, cap=100) == dict.fromkeys(counts, 100)


ERROR = '{"code": "X"}'
FLOWS = {"queue": "queue-3", "below": flows.ABOVE_ALL, "after": -1, "tenants": 32}
FLOWS |= {"of": [], "keys": [], "of_each": 16, "passed_over": []}
PAST = {"grace": 5.0, "max_rescues": 3}
PARKED = {"rules": ["slots/key/1/key-1"], "queues": ["queue-3"], "room": [5]}
OF_KEY = {"tenant": 1, "key": "key-1", "actor": "", "reason": "", "grace": None, "wanted": 1}
ENGINE: dict[str, tuple[str, dict[str, Any]]] = {
    "look": (backlog._READY, {"seen": 15.0, "free_slot_of": 8, "narrow": ["queue-1", "queue-3"]}),
    "flows": (flows._FIND, FLOWS),
    "flows of a later look": (flows._FIND, FLOWS | {"after": 1, "of": [1], "keys": ["x"]}),
    "what flows have out": (flows._OUT, {"queue": "queue-3"}),
    "long waiting": (
        flows._LONG_WAITING,
        {"queue": "queue-3", "below": flows.ABOVE_ALL, "most": 100, "ageing": 60.0},
    ),
    "dispatch of flows": (
        deciding._PICK_OF_FLOWS,
        {"queue": "queue-3", "priority": 0, "tenants": [1, 2], "keys": ["", ""], "takes": [9, 9]},
    ),
    "unserved": (serving._UNSERVED, {"lost_after": 15.0, "queues": 1_000}),
    "recent dead letters": (
        dead_letters._RECENT,
        {"seconds": 300, "cap": 2_000, "queues": 100, "canaries": "taskmill-canary"},
    ),
    "canaries": (canaries._SEEN, {"slug": "plans-small", "cap": 1_000}),
    "old canaries": (canary._OLD, {"tenant": 1, "keep": 600.0, "limit": 500}),
    **{
        f"dispatch {order}": (deciding._PICK[order], {"queue": "queue-3", "room": 100})
        for order in QueueOrder
    },
    "room of a queue": (limiting._QUEUE, {"queue": "queue-3"}),
    "limits": (limiting._LIMITS, {"tenants": [1, 1], "keys": ["key-1", "x"], "types": ["type.1"]}),
    "parked rules": (unblocking._BLOCKED, {"rule": "", "queue": "", "most": 300}),
    "let go": (unblocking._LET_GO, {"rules": ["slots/key/1/key-1"]}),
    "first of a rule": (unblocking._FIRST, PARKED),
    "older of a key": (strategies._OLDER, OF_KEY),
    "holders of a key": (strategies._HOLDERS, OF_KEY),
    "take back": (dispatching._TAKE_BACK, {"queue": "queue-3"}),
    "hints out": (dispatching._UNSTAMPED, {"queues": ["queue-3"]}),
    "sweep": (dispatching._SWEEP, {"publish_grace": 15.0, "redispatch": 30.0}),
    "promote": (dispatching._PROMOTE, {}),
    "rescue": (recovering._RESCUE, PAST),
    "expire pending": (recovering._EXPIRE_PENDING, {}),
    "expire running": (recovering._EXPIRE_RUNNING, PAST),
    "note lost workers": (leases._NOTE_LOST, {"lease": 15.0, "limit": 500}),
    "prune events of no task": (prune._PRUNE_PLATFORM, {"age": 3600.0, "limit": 500}),
    "prune": (purging._PRUNE_DONE, {"age": 86_400 * 30.0, "limit": 500}),
    "prune dead letters": (purging._PRUNE_DEAD, {"age": 86_400 * 30.0, "limit": 500}),
    "purge": (purging._PURGE, {"ids": [uuid.UUID(int=1)], "tenant": 1}),
}


@pytest.mark.parametrize("name", ENGINE)
def test_every_look_of_the_engine_reads_an_index(filled: dict[str, int], name: str) -> None:
    query, values = ENGINE[name]
    check_plan(query, values, most=20_000)


def test_the_look_for_flows_of_tenants_that_may_does_not_read_the_tasks_of_others(
    filled: dict[str, int],
) -> None:
    full = filled["big"]
    queue = "queue-1"  # of that tenant alone
    assert Task.objects.filter(state="queued", queue=queue, tenant_id=full).count() > 100
    make_task(Tenant.objects.get(pk=filled["small"]), queue=queue, priority=-1)
    values = FLOWS | {"queue": queue, "passed_over": [full]}
    values |= {"from": [-1, full], "to": [full, 2**62]}
    query_plans.check_plan(flows._FIND_OTHERS, values, most=200, large=LARGE, most_removed=10)


def test_every_write_to_one_task_reads_an_index(filled: dict[str, int]) -> None:
    running, failed = one_task("running"), one_task("failed")
    lease = {"ids": [running.id], "epochs": [running.epoch], "lease": 15.0}
    check_plan(leases._RENEW, lease, most=200)
    cancel = {"actor": "", "reason": "", "grace": None}
    who = {"id": running.id, "tenant": running.tenant_id}
    check_plan(operating._REQUEST_CANCEL, who | cancel, most=200)
    again = {"ids": [failed.id], "tenant": failed.tenant_id, "actor": "", "payload": None}
    check_plan(operating._REDRIVE, again, most=300)


def test_old_tasks_exist_to_be_listed(filled: dict[str, int]) -> None:
    oldest = Task.objects.order_by("id").values_list("created_at", flat=True).first()
    newest = Task.objects.order_by("-id").values_list("created_at", flat=True).first()
    assert oldest is not None
    assert newest is not None
    assert newest - oldest > timedelta(seconds=ROWS - 2)
