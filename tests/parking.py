"""What tests of limits and shares have in common: a queue with a worker, tasks of tenants in it,
and tasks parked by many rules.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection
from typing import Any

from django.db import connection

from tasks_app.models import Task, Tenant
from tasks_app.states import UNDER_WAY
from tests.engines import Dispatcher, new_queue
from tests.factories import make_task, make_worker

_PARK_MANY = """
INSERT INTO taskmill_task (id, tenant_id, type, queue, priority, state, version, event_seq, payload,
    metadata, tags, progress, progress_message, max_retry, attempt, attempt_base, epoch, rescues,
    interrupts, sweeps, hand_backs, dispatch_seq, created_at, updated_at, run_at, queued_at,
    process_timeout, worker, cancel_requested_by, cancel_reason, traceparent, submitted_by,
    concurrency_key, max_concurrency, blocked_by)
SELECT gen_random_uuid(), %(tenant)s, 'parked.many', 'many', 0, 'blocked', 1, 1, '{}', '{}', '{}',
    0, '', 3, 0, 0, 0, 0, 0, 0, 0, 0, now(), now(), now(), now(), 60, '', '', '', '', '',
    'key-' || k, (k = ANY(%(with_room)s::int[]))::int,
    'slots/key/' || %(tenant)s || '/key-' || k
FROM generate_series(1, %(keys)s) k, generate_series(1, %(each)s)
"""


def served_queue(*, slots: int = 20) -> str:
    """Give a queue that no other test uses and that a live worker serves."""
    name = new_queue()
    make_worker(name, slots=slots)
    return name


def park_many(tenant: Tenant, *, keys: int, each: int = 1, with_room: Collection[int] = ()) -> None:
    """Park tasks by the rules of many keys, `key-1` and so on, in a queue that nobody serves.

    Args:
        each: tasks of a key.
        with_room: keys that have a slot; the others are full.
    """
    values = {"tenant": tenant.pk, "keys": keys, "each": each, "with_room": list(with_room)}
    with connection.cursor() as cursor:
        cursor.execute(_PARK_MANY, values)
        cursor.execute("ANALYZE taskmill_task")


def many(count: int, tenant: Tenant, queue: str, **fields: Any) -> list[uuid.UUID]:
    """Make so many tasks of a tenant in a queue."""
    return [make_task(tenant, queue=queue, **fields) for _ in range(count)]


def out(queue: str) -> Counter[str]:
    """Count what the tenants have handed out or running."""
    rows = Task.objects.filter(queue=queue, state__in=UNDER_WAY)
    return Counter(rows.values_list("tenant__slug", flat=True))


def rounds(bench: Dispatcher, number: int = 3) -> None:
    """Have the dispatcher run some rounds."""
    for _ in range(number):
        bench.round()
