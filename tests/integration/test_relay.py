"""The feed on real transactions: complete, dense, in order, whoever commits when."""

from __future__ import annotations

import random
import threading
import uuid
from collections import defaultdict
from typing import Any

import pytest
from django.db import connection

from tasks_app import transitions
from tasks_app.db import connect
from tasks_app.leadership import LeadershipLost
from tasks_app.maintenance.prune import PruneFeed
from tasks_app.maintenance.step import StepTurn
from tasks_app.progress import save_progress
from tests.factories import claim, drive, make_task, make_tenant
from tests.relays import event_count, feed_rows, relay

pytestmark = pytest.mark.django_db(transaction=True)


def new_task(cursor: Any, tenant_id: int) -> uuid.UUID:
    task = transitions.NewTask(
        tenant_id=tenant_id,
        type="tests.echo",
        queue="default",
        payload={},
        max_retry=0,
        process_timeout=60,
    )
    assert transitions.insert_tasks(cursor, [task])
    return task.id


def check_feed() -> list[tuple[int, uuid.UUID, int]]:
    """All committed events, dense sequences, and each task's events in order without a gap."""
    rows = feed_rows()
    assert [sequence for sequence, _, _ in rows] == list(range(1, event_count() + 1))
    per_task: defaultdict[uuid.UUID, list[int]] = defaultdict(list)
    for _, task_id, seq in rows:
        per_task[task_id].append(seq)
    assert all(found == list(range(1, len(found) + 1)) for found in per_task.values())
    return rows


def test_events_get_dense_places_in_their_order() -> None:
    with relay() as one:
        task_id = make_task(state="success")
        one.drain()
        assert [(s, q) for s, _, q in check_feed()] == [(1, 1), (2, 2), (3, 3)]
        make_task(state="failed")
        one.drain()
        assert len(check_feed()) == 6
        assert feed_rows()[0][1] == task_id


def test_an_open_transaction_delays_its_own_events_alone_and_loses_none() -> None:
    tenant = make_tenant().pk
    late, other = connect("late"), connect("other")
    with relay() as one, late, other:
        with late.transaction():
            delayed = new_task(late.cursor(), tenant)
            prompt = new_task(other.cursor(), tenant)
            one.drain()
            assert [task_id for _, task_id, _ in feed_rows()] == [prompt]
        one.drain()
        assert [task_id for _, task_id, _ in check_feed()] == [prompt, delayed]


def test_a_rolled_back_transaction_leaves_nothing_to_wait_for() -> None:
    tenant = make_tenant().pk
    late, other = connect("late"), connect("other")
    with relay() as one, late, other:
        with late.transaction(force_rollback=True):
            new_task(late.cursor(), tenant)
            new_task(other.cursor(), tenant)
            one.drain()
            assert len(one.work._horizon.open) == 1
        one.round()
        one.round()
        assert one.work._horizon.open == ()
        new_task(other.cursor(), tenant)
        one.drain()
        check_feed()


def test_another_leader_goes_on_where_the_last_one_ended_with_what_is_open() -> None:
    tenant = make_tenant().pk
    late, other = connect("late"), connect("other")
    with relay() as second, late, other:
        with late.transaction():
            new_task(late.cursor(), tenant)
            with relay() as first:
                new_task(other.cursor(), tenant)
                first.drain()
            new_task(other.cursor(), tenant)
            second.drain()
            assert len(feed_rows()) == 2
        second.drain()
        assert len(check_feed()) == 3


def test_a_leader_that_was_frozen_appends_nothing() -> None:
    with relay() as frozen, relay() as successor:
        assert frozen.take()
        make_task(state="running")
        frozen.drain()
        make_task(state="running")
        connection.cursor().execute("UPDATE taskmill_leader SET expires_at = taskmill_now()")
        assert successor.take()
        with pytest.raises(LeadershipLost):
            frozen.round()
        successor.drain()
        check_feed()


def lives(tenant: int, seed: int, faults: list[BaseException]) -> None:
    """Tasks and progress in transactions of random length, some rolled back."""
    chance = random.Random(seed)
    try:
        with connect("lives") as own:
            cursor: Any = own.cursor()
            for _ in range(60):
                with own.transaction(force_rollback=chance.random() < 0.2):
                    for _ in range(chance.randint(1, 4)):
                        new_task(cursor, tenant)
                        cursor.execute("SELECT pg_sleep(%s)", [chance.choice([0, 0, 0.002, 0.01])])
    except BaseException as fault:  # noqa: BLE001 - shown by the test
        faults.append(fault)


def progress(task_id: uuid.UUID, epoch: int, faults: list[BaseException]) -> None:
    """Two connections write one task's events at the same time."""
    try:
        with connect("progress") as own:
            for percent in range(100):
                save_progress(
                    own.cursor(), task_id, epoch=epoch, percent=percent, message="", detail=None
                )
    except BaseException as fault:  # noqa: BLE001 - shown by the test
        faults.append(fault)


def test_concurrent_transactions_of_random_length_lose_nothing_and_reverse_nothing() -> None:
    tenant = make_tenant()
    task_id = make_task(tenant)
    drive(task_id, "dispatched")
    epoch = claim(task_id)
    faults: list[BaseException] = []
    threads = [threading.Thread(target=lives, args=(tenant.pk, n, faults)) for n in range(4)]
    threads += [threading.Thread(target=progress, args=(task_id, epoch, faults)) for _ in range(2)]
    with relay() as one:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            one.round()
        assert faults == []
        one.drain()
        rows = check_feed()
    assert sum(found == task_id for _, found, _ in rows) == 202


def test_the_feed_is_pruned_from_its_beginning_and_keeps_its_end() -> None:
    turn = StepTurn(now=0.0, healthy_seconds=0.0)
    with relay() as one, connection.cursor() as cursor:
        for _ in range(3):
            make_task()
            one.drain()
        cursor.execute("UPDATE taskmill_feed SET at = at - interval '2 hours'")
        make_task()
        one.drain()
        assert PruneFeed(retention_hours=1).run_once(cursor, turn).count == 3
        assert [sequence for sequence, _, _ in feed_rows()] == [4]
        cursor.execute("UPDATE taskmill_feed SET at = at - interval '2 hours'")
        assert PruneFeed(retention_hours=1).run_once(cursor, turn).count == 0
        make_task()
        one.drain()
        assert [sequence for sequence, _, _ in feed_rows()] == [4, 5]
