"""Every look of a beat and of its watchers reads an index, at 5,000 schedules, 100,000 instants."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from scheduler import selectors
from scheduler.loading import SELECT_SCHEDULES
from scheduler.models import Schedule, ScheduleChange
from scheduler.ticking import changes, clock, firing, publishing, settling, starting
from tests.beats import database_now
from tests.factories import make_tenant
from tests.query_plans import check_plan

pytestmark = pytest.mark.django_db

SCHEDULES = 5_000
ROWS = 100_000
LARGE = ("taskmill_schedule", "taskmill_firing")
_FILL = """
INSERT INTO taskmill_firing (schedule_id, nominal_at, outcome, reason, is_manual, actor, task_id,
    task_state, is_open, recorded_at, fired_at, tries)
SELECT s.id, at, CASE WHEN n %% 4000 = 0 THEN 'waiting' WHEN n %% 4000 = 1 THEN 'publishing'
        WHEN n %% 3 = 0 THEN 'missed' WHEN n %% 3 = 1 THEN 'skipped' ELSE 'fired' END,
    '', n %% 100 = 0, '', md5(n::text)::uuid, '', n %% 1000 = 2, at, at, 0
FROM (SELECT n, taskmill_now() - n * interval '30 s' AS at
      FROM generate_series(%(rows)s, 1, -1) n) i
JOIN taskmill_schedule s ON s.key = 'plan-' || n %% %(schedules)s ORDER BY n DESC
"""


@pytest.fixture(scope="module")
def filled(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        make_many_schedules()
        with connection.cursor() as cursor:
            cursor.execute(_FILL, {"rows": ROWS, "schedules": SCHEDULES})
            for table in ("taskmill_schedule", "taskmill_firing", "taskmill_schedule_change"):
                cursor.execute(f"VACUUM ANALYZE {table}")
        yield
        PeriodicTask.objects.filter(name__startswith="plan-").delete()
        ScheduleChange.objects.all().delete()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE taskmill_tenant CASCADE")


def make_many_schedules() -> None:
    """A fifth of them late, a few due in time, the others later on."""
    tenant, now = make_tenant("plans-schedules"), database_now()
    every = IntervalSchedule.objects.create(every=1, period="hours")
    tasks = PeriodicTask.objects.bulk_create(
        PeriodicTask(name=f"plan-{number}", task="tests.echo", interval=every)
        for number in range(SCHEDULES)
    )
    Schedule.objects.bulk_create(
        Schedule(
            periodic_task=task,
            tenant=tenant,
            key=task.name,
            anchor_at=now,
            next_at=at,
            next_nominal_at=at,
            created_at=now,
            updated_at=now,
        )
        for number, task in enumerate(tasks)
        for at in [now + timedelta(seconds=number - 1_000)]
    )


MANY = {"limit": 200, "grace": 30.0}
QUERIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "due in time": (SELECT_SCHEDULES + firing._IN_TIME, MANY, 2_500),
    "late": (SELECT_SCHEDULES + firing._LATE, MANY, 4_000),
    "nothing late": (SELECT_SCHEDULES + firing._LATE, MANY | {"grace": 86_400.0}, 50),
    "when the next is due": (clock._NEXT, {}, 50),
    "edited": (changes._TAKE, {"limit": changes.BATCH}, 2_000),
    "open firings": (settling._OPEN, {"after": 0, "limit": settling.BATCH}, 500),
    "waiting instants": (settling._WAITING, {"limit": settling.BATCH}, 200),
    "to be published": (publishing._CLAIM, {"lease": 60.0, "limit": publishing.BATCH}, 1_000),
    "recorded lately": (
        selectors._LATELY,
        {"minutes": selectors.LATELY_MINUTES, "most": selectors.LATELY_MOST},
        50,
    ),
    "most that counts as lately": (
        selectors._LATELY,
        {"minutes": 1_000_000, "most": selectors.LATELY_MOST},
        2_000,
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_look_at_schedules_and_instants_reads_an_index(filled: None, name: str) -> None:
    query, values, most = QUERIES[name]
    check_plan(query, values, most=most, large=LARGE)


def test_looks_at_the_instants_of_some_schedules_read_an_index(filled: None) -> None:
    ids = list(Schedule.objects.values_list("id", flat=True)[:200])
    check_plan(starting._OPEN, {"ids": ids}, most=2_000, large=LARGE)
    check_plan(firing._WAITING, {"ids": ids}, most=2_000, large=LARGE)


def test_health_reads_no_instants_but_those_that_are_published(filled: None) -> None:
    values = {"silent": selectors.SILENT_SECONDS}
    check_plan(selectors._HEALTH, values, most=1_000, large=["taskmill_firing"])


def test_a_look_without_an_index_is_noticed(filled: None) -> None:
    query = "SELECT count(*) FROM taskmill_firing WHERE fired_at > now()"
    with pytest.raises(AssertionError, match="Seq Scan"):
        check_plan(query, {}, most=100_000, large=LARGE)
