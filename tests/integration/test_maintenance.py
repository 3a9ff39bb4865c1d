"""The steps of the maintain loop on real PostgreSQL, with time shifted in the database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection as django_connection

from tasks_app.conf import conf
from tasks_app.db import Cursor, connect
from tasks_app.maintenance.expire import ExpirePending, ExpireRunning, ForceCancel
from tasks_app.maintenance.loop import MaintainWork, maintain_steps
from tasks_app.maintenance.promote import Promote
from tasks_app.maintenance.prune import PruneRecords, prune_steps
from tasks_app.maintenance.rescue import Rescue
from tasks_app.maintenance.step import Step, StepResult, StepTurn
from tasks_app.maintenance.sweep import Sweep
from tasks_app.models import (
    Attempt,
    Event,
    IdempotencyRecord,
    Limit,
    LogChunk,
    OnceValue,
    StaleResult,
    SubmissionMeter,
    Task,
    UniqueHold,
    WorkerProcess,
)
from tasks_app.services.caller import Caller
from tasks_app.services.limits import change_key_limit
from tasks_app.states import FINISHED, State
from tests.engines import running_loop
from tests.factories import make_task, make_tenant, make_worker, task_column, task_state
from tests.processes import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
DAY = 86_400


class Clock:
    """A connection whose database clock is shifted."""

    def __init__(self) -> None:
        self.connection = connect("maintain")

    def after(self, seconds: float) -> Cursor:
        """Give a cursor that lives so many seconds from now."""
        self.connection.execute(
            "SELECT set_config('taskmill.clock_offset', %s, false)", [f"{seconds} s"]
        )
        return self.connection.cursor()


@pytest.fixture
def clock() -> Iterator[Clock]:
    one = Clock()
    yield one
    one.connection.close()


def run(step: Step, cursor: Cursor, *, now: float = 1000.0, healthy: float = 1e9) -> StepResult:
    return step.run_once(cursor, StepTurn(now=now, healthy_seconds=healthy))


def error_code(task_id: uuid.UUID) -> str:
    error = Task.objects.get(id=task_id).error
    assert error is not None
    return str(error["code"])


def last_event(task_id: uuid.UUID) -> Event:
    found = Event.objects.filter(task_id=task_id).order_by("seq").last()
    assert found is not None
    return found


def test_promote_makes_due_tasks_ready_and_says_when_the_next_is_due(clock: Clock) -> None:
    scheduled = make_task(state="scheduled", delay_seconds=100)
    retrying = make_task(state="retrying")
    step = Promote(interval_seconds=0.5)
    early = run(step, clock.after(90))
    assert early.count == 0
    assert early.next_seconds == pytest.approx(10, abs=2)
    assert run(step, clock.after(101)).count == 1
    assert task_state(scheduled) == "queued"
    assert run(step, clock.after(4000)).count == 1
    assert (task_state(retrying), run(step, clock.after(4000)).next_seconds) == ("queued", None)


def test_promote_does_not_spin_while_somebody_holds_a_task_that_is_due(clock: Clock) -> None:
    held = make_task(state="scheduled", delay_seconds=100)
    make_task(state="scheduled", delay_seconds=300)
    step = Promote(interval_seconds=0.5)
    with connect("other") as other, other.transaction():
        other.execute("SELECT 1 FROM taskmill_task WHERE id = %s FOR UPDATE", [held])
        found = run(step, clock.after(110))
        assert (found.count, found.is_full) == (0, False)
        assert found.next_seconds == pytest.approx(190, abs=5)
    assert run(step, clock.after(110)).count == 1


def make_sweep() -> Sweep:
    return Sweep(publish_grace_seconds=15, redispatch_seconds=30)


def test_sweep_takes_back_hints_that_were_never_confirmed(clock: Clock) -> None:
    task_id = make_task(state="dispatched")
    assert run(make_sweep(), clock.after(14)).count == 0
    assert run(make_sweep(), clock.after(16)).count == 1
    assert task_state(task_id) == "queued"
    assert last_event(task_id).data == {"reason": "hint_lost"}


def test_sweep_waits_longer_for_hints_that_were_confirmed(clock: Clock) -> None:
    task_id = make_task(state="dispatched")
    with django_connection.cursor() as cursor:
        cursor.execute("UPDATE taskmill_task SET published_at = now() WHERE id = %s", [task_id])
    assert run(make_sweep(), clock.after(29)).count == 0
    assert run(make_sweep(), clock.after(31)).count == 1


def make_rescue(max_rescues: int = 3) -> Rescue:
    return Rescue(lease_seconds=15, grace_seconds=5, max_rescues=max_rescues)


def test_rescue_retries_what_a_lost_worker_ran_and_ends_cancels(clock: Clock) -> None:
    running, cancelling = make_task(state="running"), make_task(state="cancelling")
    assert run(make_rescue(), clock.after(604)).count == 0
    assert run(make_rescue(), clock.after(606)).count == 2
    assert (task_state(running), task_state(cancelling)) == ("retrying", "cancelled")
    assert error_code(running) == "WORKER_LOST"
    assert Attempt.objects.get(task_id=running).outcome == "lost"


def test_rescue_ends_a_task_that_workers_keep_losing(clock: Clock) -> None:
    task_id = make_task(state="running")
    assert run(make_rescue(max_rescues=0), clock.after(606)).count == 1
    assert task_state(task_id) == "error"


def test_nothing_is_rescued_before_the_database_was_healthy_for_a_lease_and_its_grace(
    clock: Clock,
) -> None:
    task_id = make_task(state="running")
    step = make_rescue()
    assert run(step, clock.after(606), healthy=19.9).count == 0
    assert task_state(task_id) == "running"
    assert run(step, clock.after(606), healthy=20.1).count == 1


def test_a_mass_expiry_waits_one_more_lease_and_a_renewal_meanwhile_saves_the_tasks(
    clock: Clock,
) -> None:
    tasks = [make_task(state="running") for _ in range(12)]
    step = make_rescue()
    cursor = clock.after(606)
    assert run(step, cursor, now=100.0).count == 0
    assert run(step, cursor, now=114.0).count == 0
    with django_connection.cursor() as renewal:
        renewal.execute(
            "UPDATE taskmill_task SET lease_expires_at = now() + interval '700 s'"
            " WHERE id = ANY(%s)",
            [tasks[:10]],
        )
    assert run(step, cursor, now=115.1).count == 2
    assert [task_state(one) for one in tasks[:10]] == ["running"] * 10


def test_a_few_lost_leases_are_rescued_at_once_beside_many_live_ones(clock: Clock) -> None:
    tasks = [make_task(state="running") for _ in range(40)]
    with django_connection.cursor() as renewal:
        renewal.execute(
            "UPDATE taskmill_task SET lease_expires_at = now() + interval '700 s'"
            " WHERE id = ANY(%s)",
            [tasks[11:]],
        )
    assert run(make_rescue(), clock.after(606)).count == 11


def test_a_queue_timeout_fires_with_no_worker_at_all(clock: Clock) -> None:
    tasks = [
        make_task(queue_timeout=60, state=state) for state in ("queued", "dispatched", "blocked")
    ]
    assert run(ExpirePending(), clock.after(59)).count == 0
    assert run(ExpirePending(), clock.after(61)).count == 3
    assert {task_state(one) for one in tasks} == {"timeout"}
    assert error_code(tasks[0]) == "QUEUE_TIMEOUT"


def test_a_process_timeout_fires_although_the_worker_keeps_its_lease(clock: Clock) -> None:
    task_id = make_task(state="running", process_timeout=60)
    last = make_task(state="running", process_timeout=60, max_retry=0)
    step = ExpireRunning(grace_seconds=10)
    assert run(step, clock.after(69)).count == 0
    assert run(step, clock.after(71)).count == 2
    assert (task_state(task_id), task_state(last)) == ("retrying", "timeout")


def test_a_cancel_that_a_living_worker_never_confirms_is_forced(clock: Clock) -> None:
    task_id = make_task(state="cancelling")
    step = ForceCancel(grace_seconds=5, lease_seconds=15)
    assert run(step, clock.after(29)).count == 0
    assert run(step, clock.after(31)).count == 1
    assert task_state(task_id) == "cancelled"
    data = last_event(task_id).data
    assert data is not None
    assert data["how"] == "kill_unconfirmed"


def prune(cursor: Cursor) -> int:
    return sum(
        run(step, cursor).count
        for step in prune_steps(success_days=30, failed_days=60, feed_hours=72)
    )


def test_prune_removes_finished_tasks_with_their_history_after_their_retention(
    clock: Clock,
) -> None:
    done, dead = make_task(state="success"), make_task(state="failed")
    tenant = make_tenant()
    for task_id in (done, dead):
        LogChunk.objects.create(
            task_id=task_id, tenant=tenant, epoch=1, number=1, size_bytes=2, lines=[]
        )
        OnceValue.objects.create(
            task_id=task_id, key="k", value=1, epoch=1, at=task_column(task_id, "created_at")
        )
    assert prune(clock.after(29 * DAY)) == 0
    assert prune(clock.after(31 * DAY)) == 1
    assert not Task.objects.filter(id=done).exists()
    for kind in (Event, Attempt, LogChunk, OnceValue):
        assert set(kind.objects.values_list("task_id", flat=True)) == {dead}
    assert prune(clock.after(61 * DAY)) == 1
    assert Event.objects.count() == Attempt.objects.count() == LogChunk.objects.count() == 0


def test_prune_never_touches_a_live_task(clock: Clock) -> None:
    live = [make_task(state=state) for state in State if state not in FINISHED]
    prune(clock.after(10_000 * DAY))
    assert Task.objects.filter(id__in=live).count() == len(live)
    assert set(Event.objects.values_list("task_id", flat=True)) == set(live)


def test_prune_removes_old_records_and_the_rows_of_lost_workers(clock: Clock) -> None:
    make_worker("default")
    with django_connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_stale_result (task_id, epoch, verb, worker, at, digest)"
            " VALUES (%s, 1, 'succeed', 'w', now(), '')",
            [uuid.uuid4()],
        )
        cursor.execute(
            "INSERT INTO taskmill_idempotency (tenant_id, key, path, fingerprint,"
            " response_headers, created_at, expires_at)"
            " VALUES (%s, 'k', '/', '', '{}', now(), now() + interval '1 day')",
            [make_tenant().pk],
        )
    assert prune(clock.after(3500)) == 0
    assert prune(clock.after(3700)) == 1
    assert not WorkerProcess.objects.exists()
    assert prune(clock.after(DAY + 60)) == 1
    assert not IdempotencyRecord.objects.exists()
    assert prune(clock.after(61 * DAY)) == 2  # and the event that the worker is online
    assert not Event.objects.exists()
    assert not StaleResult.objects.exists()


def test_prune_removes_keys_whose_time_is_over_and_counts_of_old_minutes(clock: Clock) -> None:
    with django_connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_unique_hold (tenant_id, key, task_id, expires_at)"
            " VALUES (%s, 'k', %s, now() + interval '2 hours')",
            [make_tenant().pk, uuid.uuid4()],
        )
        cursor.execute("INSERT INTO taskmill_submission_meter VALUES ('tenant:1', now(), 5)")
    assert prune(clock.after(3500)) == 0
    assert prune(clock.after(3700)) == 1
    assert not SubmissionMeter.objects.exists()
    assert UniqueHold.objects.exists()
    assert prune(clock.after(7300)) == 1
    assert not UniqueHold.objects.exists()


def test_prune_removes_keys_of_which_nothing_is_pinned_an_hour_after_they_were_lifted(
    clock: Clock,
) -> None:
    caller = Caller(tenant_id=make_tenant().pk, actor="tests")
    for key in ("lifted", "pinned"):
        change_key_limit(caller=caller, key=key, columns={"concurrency": 1})
    change_key_limit(caller=caller, key="lifted", columns={"concurrency": None})
    Limit.objects.create(of="type", name="declared", changed_at="2020-01-01T00:00Z")
    assert prune(clock.after(3500)) == 0
    assert prune(clock.after(3700)) == 1
    assert set(Limit.objects.values_list("name", flat=True)) == {"pinned", "declared"}


def test_prune_leaves_what_a_submission_holds_for_later_and_takes_no_more_than_its_limit(
    clock: Clock,
) -> None:
    with django_connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskmill_submission_meter SELECT 'tenant:' || n, now(), 5"
            " FROM generate_series(1, 602) n"
        )
    step = PruneRecords(stale_days=1)
    cursor = clock.after(3700)
    cursor.execute("SET lock_timeout = 300")
    with connect("other") as other, other.transaction():
        other.execute("SELECT 1 FROM taskmill_submission_meter WHERE scope = 'tenant:1' FOR UPDATE")
        assert run(step, cursor) == StepResult(count=500, is_full=True)
        assert run(step, cursor) == StepResult(count=101)
    assert SubmissionMeter.objects.get().scope == "tenant:1"


class CountingStep:
    """A step that hits its limit a few times."""

    name = "counting"
    interval_seconds = 3600.0

    def __init__(self) -> None:
        self.runs = 0

    def run_once(self, cursor: Cursor, _turn: StepTurn) -> StepResult:
        cursor.execute("SELECT 1")
        self.runs += 1
        return StepResult(count=1, is_full=self.runs < 4)


def test_a_step_that_hits_its_limit_is_repeated_at_once() -> None:
    step = CountingStep()
    with running_loop(MaintainWork([step]), conf()):
        wait_for(lambda: step.runs == 4, seconds=5)


def test_the_loop_promotes_a_short_delay_on_time_and_survives_a_lost_connection() -> None:
    settings = replace(conf(), maintain_poll_seconds=60.0)
    with running_loop(MaintainWork(maintain_steps(settings)), settings):
        wait_for(leader_pid, seconds=5)
        with django_connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [leader_pid()])
        task_id = make_task(state="scheduled", delay_seconds=0.3)
        wait_for(lambda: task_state(task_id) == "queued", seconds=10)


def leader_pid() -> Any:
    with django_connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'taskmill-maintain'"
            " AND datname = current_database()"
        )
        row = cursor.fetchone()
    return row and row[0]
