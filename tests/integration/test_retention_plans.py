"""What retention reads follows what it deletes, not what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tasks_app.models import Event, Task
from tasks_app.selectors import reporting
from tasks_app.transitions import purging, unblocking
from tests import query_plans
from tests.factories import make_tenant

pytestmark = pytest.mark.django_db

KEPT = 30_000
OLD = 2_000
LIMIT = 500
LARGE = ("taskmill_task", "taskmill_event")

_FILL = """
INSERT INTO taskmill_task (id, tenant_id, type, queue, state, payload, metadata, tags, max_retry,
    created_at, updated_at, run_at, finished_at, process_timeout, priority, version, event_seq,
    progress, progress_message, attempt, attempt_base, epoch, rescues, interrupts, sweeps,
    hand_backs, dispatch_seq, worker, cancel_requested_by, cancel_reason, traceparent, submitted_by)
SELECT gen_random_uuid(), %(tenant)s, 't', 'q', %(state)s, '{}', '{}', '{}', 0, at, at, at, at, 60,
    0, 1, 1, 0, '', 1, 0, 1, 0, 0, 0, 0, 1, '', '', '', '', ''
FROM (SELECT now() - make_interval(days => %(days)s) - n * interval '1 s' AS at
      FROM generate_series(1, %(rows)s) n) made
"""
CLASSES = {
    "done": ("success", "failed", purging._PRUNE_DONE),
    "dead letters": ("timeout", "cancelled", purging._PRUNE_DEAD),
}


@pytest.fixture(params=CLASSES)
def pruned(request: Any, db: None) -> Iterator[str]:
    """The statement that prunes a class of which little is old, beside much of the other, older."""
    old, kept, statement = CLASSES[request.param]
    values = {"tenant": make_tenant("retention").pk}
    with connection.cursor() as cursor:
        cursor.execute(_FILL, values | {"state": kept, "days": 20, "rows": KEPT})
        cursor.execute(_FILL, values | {"state": old, "days": 10, "rows": OLD})
        cursor.execute(
            "INSERT INTO taskmill_event (task_id, tenant_id, seq, type, state, epoch, attempt, at,"
            " actor) SELECT id, tenant_id, 1, 'task.created', 'queued', 0, 0, created_at, ''"
            " FROM taskmill_task"
        )
        cursor.execute("ANALYZE taskmill_task")
        cursor.execute("ANALYZE taskmill_event")
    yield statement
    assert Task.objects.filter(state=kept).count() == KEPT
    assert Task.objects.filter(state=old).count() == OLD - LIMIT
    assert Event.objects.count() == KEPT + OLD - LIMIT


def test_pruning_a_class_reads_nothing_of_one_that_is_kept_longer(pruned: str) -> None:
    values = {"age": 7 * 86_400.0, "limit": LIMIT}
    query_plans.check_plan(pruned, values, most=25_000, large=LARGE, most_removed=0)


def test_what_ended_lately_and_in_a_span_is_found_by_the_time_of_finish(pruned: str) -> None:
    values: dict[str, Any] = {"age": 7 * 86_400.0, "limit": LIMIT}
    with connection.cursor() as cursor:
        cursor.execute(pruned, values)
        cursor.execute("SELECT now() - interval '10 days 20 s', now() - interval '10 days'")
        start, end = cursor.fetchone()
    span = {"start": start, "end": end, "canary": "none"}
    query_plans.check_plan(reporting._FINISHED, span, most=100, large=LARGE, most_removed=50)
    freed = {"since": start, "ended": 10, "changed": 10}
    query_plans.check_plan(unblocking._FREED, freed, most=100, large=LARGE, most_removed=10)
