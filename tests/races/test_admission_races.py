"""Submissions that meet on two connections: no room and no key is given twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction

from tasks_app import public, transitions
from tasks_app.db import connect
from tasks_app.models import Queue, SubmissionMeter, Task, Tenant
from tasks_app.selectors.queues import forget_queue_defaults
from tasks_app.selectors.quotas import forget_quotas
from tasks_app.services import admission
from tests import task_handlers  # noqa: F401 - registers the types
from tests.factories import make_tenant
from tests.processes import wait_for
from tests.races import duel
from tests.races.duel import Arena

pytestmark = pytest.mark.django_db(transaction=True)
Outcome = public.TaskHandle | public.RequestError


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    yield make_tenant("acme")
    forget_quotas()


@pytest.fixture
def arena(transactional_db: None) -> Iterator[Arena]:
    with connect("left") as left, connect("right") as right, connect("watcher") as watcher:
        yield Arena(left, right, watcher)


def limit(holder: Tenant | Queue, **quotas: int) -> None:
    type(holder).objects.filter(pk=holder.pk).update(**quotas)
    forget_quotas()
    forget_queue_defaults()


def submit(**options: Any) -> Outcome:
    try:
        return public.submit("tests.echo", options.pop("payload", {}), tenant="acme", **options)
    except public.RequestError as error:
        return error


def submit_in_thread(**options: Any) -> Outcome:
    try:
        return submit(**options)
    finally:
        connections.close_all()


def is_blocked_or_done(other: Future[Outcome]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0]) or other.done()


def in_a_row(first: dict[str, Any], second: dict[str, Any]) -> tuple[Outcome, Outcome]:
    """Submit the second while the transaction of the first is open; commit both."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            before = submit(**first)
            other = pool.submit(submit_in_thread, **second)
            wait_for(lambda: is_blocked_or_done(other), seconds=20)
        return before, other.result(20)


def all_at_once(count: int, options: Callable[[int], dict[str, Any]]) -> list[Outcome]:
    barrier = threading.Barrier(count)

    def one(number: int) -> Outcome:
        barrier.wait(20)
        return submit_in_thread(**options(number))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def live() -> list[Task]:
    return list(Task.objects.filter(finished_at=None))


@pytest.mark.parametrize(
    "quota", ["max_waiting", "max_waiting_bytes", "max_submissions_per_minute"]
)
def test_the_last_room_of_a_tenant_is_given_once(tenant: Tenant, quota: str) -> None:
    limit(tenant, **{quota: 2 if quota == "max_waiting_bytes" else 1})
    first, second = in_a_row({}, {})
    assert isinstance(first, public.TaskHandle)
    assert isinstance(second, public.QuotaExceeded)
    assert Task.objects.count() == 1


def test_the_room_is_kept_from_the_count_to_the_commit(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(tenant, max_waiting=1)
    counted, insert = threading.Event(), threading.Event()
    plain = admission.insert_tasks

    def held(cursor: Any, tasks: Any, **options: Any) -> Any:
        if not counted.is_set():
            counted.set()
            insert.wait(20)
        return plain(cursor, tasks, **options)

    monkeypatch.setattr(admission, "insert_tasks", held)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(submit_in_thread)
        assert counted.wait(20)
        second = pool.submit(submit_in_thread)
        wait_for(lambda: is_blocked_or_done(second), seconds=20)
        insert.set()
        assert isinstance(first.result(20), public.TaskHandle)
        assert isinstance(second.result(20), public.QuotaExceeded)


def test_the_room_of_a_rolled_back_submission_is_free_again(tenant: Tenant) -> None:
    limit(tenant, max_waiting=1, max_submissions_per_minute=1)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert isinstance(submit(), public.TaskHandle)
            other = pool.submit(submit_in_thread)
            wait_for(lambda: is_blocked_or_done(other), seconds=20)
            transaction.set_rollback(True)
        assert isinstance(other.result(20), public.TaskHandle)
    assert SubmissionMeter.objects.get().accepted == 1


def test_a_crowd_gets_exactly_what_a_queue_has_room_for(tenant: Tenant) -> None:
    limit(Queue.objects.create(name="narrow"), max_waiting=5)
    limit(tenant, max_submissions_per_minute=7)
    outcomes = all_at_once(12, lambda n: {"queue": "narrow" if n % 2 else "default"})
    taken = [one for one in outcomes if isinstance(one, public.TaskHandle)]
    assert len(taken) == 7
    assert Task.objects.filter(queue="narrow").count() <= 5
    assert SubmissionMeter.objects.get(scope=f"tenant:{tenant.pk}").accepted == 7


def test_a_key_with_a_ttl_is_taken_once(tenant: Tenant) -> None:
    rule = {"unique": {"key": "k", "while": "ttl", "ttl": 600}}
    first, second = in_a_row(rule, rule)
    assert isinstance(first, public.TaskHandle)
    assert isinstance(second, public.TaskHandle)
    assert (second.id, second.is_existing) == (first.id, True)
    crowd = {one.id for one in all_at_once(6, lambda _: rule) if isinstance(one, public.TaskHandle)}
    assert crowd == {first.id}
    assert Task.objects.count() == 1


@pytest.mark.parametrize("span", [{}, {"while": "ttl", "ttl": 600}])
def test_of_many_that_replace_one_another_one_lives(tenant: Tenant, span: dict[str, Any]) -> None:
    rule = {"unique": {"key": "k", "on_conflict": "replace", **span}}
    first, second = in_a_row(rule, rule)
    assert isinstance(first, public.TaskHandle)
    assert isinstance(second, public.TaskHandle)
    assert [task.id for task in live()] == [second.id]
    assert first.refresh().state == "cancelled"
    outcomes = all_at_once(6, lambda _: rule)
    assert all(isinstance(one, public.TaskHandle) for one in outcomes), outcomes
    assert len(live()) == 1
    assert Task.objects.count() == 8


def test_a_replacement_waits_for_the_one_before_and_needs_no_second_try(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a crowd each would find its holder gone, again and again, until it gives up."""
    monkeypatch.setattr(admission, "TRIES", 1)
    rule = {"unique": {"key": "k", "on_conflict": "replace"}}
    assert isinstance(submit(**rule), public.TaskHandle)
    has_met_the_key, go_on = threading.Event(), threading.Event()
    plain = admission.insert_tasks

    def held(cursor: Any, tasks: Any, **options: Any) -> Any:
        found = plain(cursor, tasks, **options)
        if threading.current_thread() is not threading.main_thread() and not found:
            has_met_the_key.set()
            go_on.wait(20)
        return found

    monkeypatch.setattr(admission, "insert_tasks", held)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(submit_in_thread, **rule)
        assert has_met_the_key.wait(20)
        with transaction.atomic():
            assert isinstance(submit(**rule), public.TaskHandle)
            go_on.set()
            wait_for(lambda: is_blocked_or_done(late), seconds=20)
        outcome = late.result(20)
    assert isinstance(outcome, public.TaskHandle), outcome
    assert [task.id for task in live()] == [outcome.id]


def test_debounced_submissions_at_once_become_one_task(tenant: Tenant) -> None:
    rule = {"debounce": {"key": "k", "wait": 60, "max_wait": 600}}
    first, second = in_a_row(rule | {"payload": {"n": 1}}, rule | {"payload": {"n": 2}})
    assert isinstance(first, public.TaskHandle)
    assert isinstance(second, public.TaskHandle)
    assert second.id == first.id
    assert Task.objects.get().payload == {"n": 2}
    all_at_once(6, lambda n: rule | {"payload": {"n": n}})
    assert Task.objects.get().event_seq == 8


# --- against a worker ------------------------------------------------------------------------


def newer(arena: Arena, **options: Any) -> transitions.NewTask:
    return transitions.NewTask(
        tenant_id=arena.tenant,
        type="demo.echo",
        queue="default",
        payload={"n": 2},
        max_retry=3,
        process_timeout=60,
        **options,
    )


def debouncing(arena: Arena) -> duel.Operation:
    task = newer(arena, debounce_key="k", debounce_seconds=600, delay_seconds=60)
    return lambda cursor: transitions.debounce(cursor, task)


def displacing(arena: Arena, task_id: uuid.UUID) -> duel.Operation:
    return lambda cursor: transitions.displace(cursor, task_id, newer=newer(arena))


def dispatched(arena: Arena, **options: Any) -> transitions.DispatchedTask:
    arena.queued(**options)
    [hint], _ = transitions.dispatch(arena.watcher.cursor(), queue="default", room=1)
    return hint


DEBOUNCED = {"debounce_key": "k", "debounce_seconds": 600.0}


def test_a_claim_before_a_debounce_keeps_its_payload(arena: Arena) -> None:
    hint = dispatched(arena, **DEBOUNCED)
    claim, moved = arena.duel(duel.claiming(hint), debouncing(arena))
    assert claim.payload == {}
    assert moved is None
    assert arena.state_of(hint.id) == "running"
    assert arena.violations() == []


def test_a_claim_after_a_debounce_is_refused(arena: Arena) -> None:
    hint = dispatched(arena, **DEBOUNCED)
    moved, claim = arena.duel(debouncing(arena), duel.claiming(hint))
    assert moved == hint.id
    assert claim is None
    assert arena.state_of(hint.id) == "scheduled"
    assert arena.violations() == []


def test_a_claim_before_a_replacement_keeps_its_task(arena: Arena) -> None:
    hint = dispatched(arena)
    claim, is_displaced = arena.duel(duel.claiming(hint), displacing(arena, hint.id))
    assert claim is not None
    assert not is_displaced
    assert arena.state_of(hint.id) == "running"
    assert arena.violations() == []


def test_a_claim_after_a_replacement_is_refused(arena: Arena) -> None:
    hint = dispatched(arena)
    is_displaced, claim = arena.duel(displacing(arena, hint.id), duel.claiming(hint))
    assert is_displaced
    assert claim is None
    assert arena.state_of(hint.id) == "cancelled"
    assert arena.violations() == []
