"""What explaining costs beside a small and a large backlog: `python -m bench.flow --waiting`.

Two databases of one server, alike but for how much waits. What is few stays few in both and was
submitted first: a list that begins with the newest has the whole backlog before it. The product's
own reads run warm, in turn on the two databases; a ratio is within one run.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any

FEW = 300
CALLS = 60

_FILL = """
INSERT INTO taskmill_task (id, tenant_id, type, queue, priority, state, version, event_seq, payload,
    metadata, tags, progress, progress_message, max_retry, attempt, attempt_base, epoch, rescues,
    interrupts, sweeps, hand_backs, dispatch_seq, created_at, updated_at, run_at, queued_at,
    process_timeout, worker, cancel_requested_by, cancel_reason, traceparent, submitted_by,
    concurrency_key, max_concurrency, blocked_by)
SELECT (lpad(to_hex((extract(epoch FROM made) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    %(tenant)s, 'bench.flow', queue, n %% 3, state, 1, 1, '{}', '{}', '{}', 0, '', 3, 0, 0, 0, 0, 0,
    0, 0, 0, made, made,
    CASE WHEN state = 'scheduled' THEN now() + interval '1 day' ELSE made END, made, 60, '', '', '',
    '', '', key, CASE WHEN key IS NOT NULL THEN 1 END,
    CASE WHEN state <> 'blocked' THEN NULL WHEN key IS NULL THEN 'rate/type/0/bench.flow'
         ELSE 'slots/key/' || %(tenant)s || '/' || key END
FROM (SELECT n, now() - (%(rows)s - n) * interval '10 ms' AS made,
        CASE WHEN n <= %(few)s * 3 THEN (ARRAY['queued', 'queued', 'blocked'])[1 + n %% 3]
             WHEN n %% 10 = 0 THEN 'blocked' WHEN n %% 10 = 1 THEN 'scheduled'
             ELSE 'queued' END AS state,
        CASE WHEN n > %(few)s * 3 THEN 'busy'
             ELSE (ARRAY['paused', 'unserved', 'busy'])[1 + n %% 3] END AS queue,
        CASE WHEN n > %(few)s * 3 AND n %% 10 = 0 THEN 'key-' || n / 10 %% 100 END AS key
      FROM generate_series(1, %(rows)s) n) s
"""
_SERVE = """
INSERT INTO taskmill_worker (id, name, queues, slots, busy, memory_bytes, is_stopping, started_at,
    last_seen_at)
VALUES ('bench', 'bench', '{busy,paused}', 16, 0, 0, false, now(), now() + interval '1 day')
"""


@contextmanager
def _connected(database: str) -> Iterator[None]:
    """Have Django's connection be of a database for the block."""
    from django.db import connections

    one = connections["default"]
    one.close()
    one.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's has one
    before, one.settings_dict["NAME"] = one.settings_dict["NAME"], database
    try:
        yield
    finally:
        one.close()
        one.close_pool()  # type: ignore[attr-defined]
        one.settings_dict["NAME"] = before


def _fill(rows: int) -> int:
    """Make the backlog of the connected database; gives the tenant."""
    from django.db import connection

    from tasks_app.models import Queue, Tenant

    tenant = Tenant.objects.get(slug="bench").pk
    for name in ("busy", "unserved"):
        Queue.objects.create(name=name)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(_FILL, {"tenant": tenant, "rows": rows, "few": FEW})
        cursor.execute(_SERVE)
        cursor.execute(
            'INSERT INTO taskmill_queue (name, description, "order", is_paused, paused_by,'
            " paused_at, pause_reason) VALUES ('paused', '', 'priority', true, 'b', now(), '')"
        )
        cursor.execute("VACUUM ANALYZE taskmill_task")
        cursor.execute("RESET statement_timeout")
    return int(tenant)


def _reads(tenant: int) -> dict[str, Callable[[], Any]]:
    """Give the reads by name; the tasks asked for stand at the front, in the middle, at the end."""
    from tasks_app.models import Task
    from tasks_app.selectors import (
        TaskFilter,
        TaskOrder,
        task_rows,
        tasks_count,
        waiting_reasons,
    )
    from tasks_app.selectors.limits import key_shown
    from tasks_app.selectors.serving import paused_queues, queues_without_worker
    from tasks_app.services.measuring import task_samples

    ready = Task.objects.filter(state="queued", queue="busy").order_by("-priority", "run_at", "id")
    count, blocked = ready.count(), Task.objects.filter(concurrency_key="key-1").order_by("id")
    asked = {"first": ready[0], "middle": ready[count // 2], "last": ready[count - 1]}
    found: dict[str, Callable[[], Any]] = {
        f"`waiting` of the {place} ready task": partial(
            waiting_reasons, tenant_id=tenant, task_id=task.pk
        )
        for place, task in asked.items()
    }
    found["`waiting` of a parked task"] = partial(
        waiting_reasons, tenant_id=tenant, task_id=blocked[0].pk
    )
    pending = ("blocked", "dispatched", "queued", "retrying", "scheduled")
    lists = {
        "queue_paused": lambda: TaskFilter(states=pending, queues=tuple(paused_queues())),
        "no_worker": lambda: TaskFilter(states=pending, queues=tuple(queues_without_worker())),
        "not_before": lambda: TaskFilter(states=("retrying", "scheduled")),
        "concurrency_limit": lambda: TaskFilter(states=("blocked",), blocked_by="slots"),
        "rate_limit": lambda: TaskFilter(states=("blocked",), blocked_by="rate"),
    }
    for reason, wanted in lists.items():
        found[f"list: {reason}"] = lambda wanted=wanted: task_rows(
            tenant_id=tenant, wanted=wanted(), order=TaskOrder()
        )
        found[f"list: {reason}, with its count"] = lambda wanted=wanted: tasks_count(
            tenant_id=tenant, wanted=wanted()
        )
    found["a key's holders and waiting"] = partial(key_shown, tenant_id=tenant, key="key-1")
    found["counts by reason for Prometheus"] = lambda: list(task_samples())
    return found


def measure(sizes: Sequence[int], databases: Sequence[str]) -> None:
    """Measure both backlogs in turn and print a table."""
    times: dict[str, list[list[float]]] = {}
    for place, (rows, database) in enumerate(zip(sizes, databases, strict=True)):
        with _connected(database):
            for name, read in _reads(_fill(rows)).items():
                times.setdefault(name, [[] for _ in sizes])[place] = _timed(read)
    columns = " | ".join(f"{rows:,} wait: p50, ms | p99, ms" for rows in sizes)
    print(f"{CALLS} calls each; load average {os.getloadavg()[0]:.1f}")
    print(f"| read | {columns} | p50, of the first |")
    print("|---|" + "---:|" * (2 * len(sizes) + 1))
    for name, found in times.items():
        cells = [f"{part:.1f}" for one in found for part in _percentiles(one)]
        ratio = statistics.median(found[-1]) / statistics.median(found[0])
        print(f"| {name} | {' | '.join(cells)} | {ratio:.1f} |")


def _timed(read: Callable[[], Any]) -> list[float]:
    found = []
    for number in range(CALLS + 5):
        began = perf_counter()
        read()
        if number >= 5:  # the first warm up
            found.append((perf_counter() - began) * 1000)
    return found


def _percentiles(times: Sequence[float]) -> tuple[float, float]:
    parts = statistics.quantiles(times, n=100, method="inclusive")
    return parts[49], parts[98]
