"""The hub of a process, on a real feed: nobody misses what came while it was looking."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections

from tasks_app.db import connect
from tasks_app.feed import FeedHub, FeedReset, Subscription, Wanted
from tests.factories import drive, make_task, make_tenant
from tests.relays import relay

pytestmark = pytest.mark.django_db(transaction=True)

BEGUN = "task.started"
_LOOKING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
  AND application_name = 'taskmill-feed' AND wait_event_type = 'Lock'
"""
_ASKED = """
SELECT query_start::text FROM pg_stat_activity WHERE datname = current_database()
  AND application_name = 'taskmill-feed'
"""


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    def call() -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return await asyncio.to_thread(call)


def sequence() -> None:
    with relay() as one:
        one.drain()


def step(*tasks: uuid.UUID) -> None:
    for task in tasks:
        drive(task, "running")


def last_sequence() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(last_sequence), 0) FROM taskmill_feed")
        return int(cursor.fetchone()[0])


@contextmanager
def reads_held_up() -> Iterator[None]:
    """Let no read of events end: each also looks at its tenant's row."""
    with connect("lock") as one:
        one.execute("BEGIN")
        one.execute("LOCK TABLE taskmill_tenant IN ACCESS EXCLUSIVE MODE")
        yield
        one.execute("COMMIT")


def ask(statement: str) -> Any:
    with connect("look") as one:
        [found] = one.execute(statement).fetchone() or [None]
    return found


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_true():
            await asyncio.sleep(0.01)


async def until_looking() -> None:
    async with asyncio.timeout(60):
        while not await in_thread(ask, _LOOKING):
            await asyncio.sleep(0.01)


async def until_next_query(reading: asyncio.Task[Any]) -> None:
    """Wait until the hub asks the database once more, or its subscriber has something."""
    before = await in_thread(ask, _ASKED)
    async with asyncio.timeout(60):
        while not reading.done() and await in_thread(ask, _ASKED) == before:
            await asyncio.sleep(0.01)


async def first_of(subscription: Subscription) -> list[tuple[uuid.UUID | None, str]]:
    batch = await subscription.next(60)
    return [(event.task_id, event.type) for event in batch.events]


def watching(hub: FeedHub, task: uuid.UUID, tenant: int, after: int) -> Subscription:
    wanted = Wanted(tenant_id=tenant, tasks=frozenset({task}))
    return hub.open(wanted, after=after, holder="test", most=10)


def test_who_joins_while_the_hub_reads_gets_what_the_read_left_out() -> None:
    acme = make_tenant("acme")
    old, new = make_task(acme), make_task(acme)
    sequence()
    after = last_sequence()

    async def scenario() -> None:
        hub = FeedHub()
        async with watching(hub, old, acme.pk, after) as first:
            reading = asyncio.create_task(first_of(first))
            await until(lambda: hub.entries > 0)
            await in_thread(step, old, new)
            with reads_held_up():
                await in_thread(sequence)
                await until_looking()
                second = watching(hub, new, acme.pk, after)
                joined = asyncio.create_task(first_of(second))
                entries = hub.entries
                await until(lambda: hub.entries > entries)
            assert (old, BEGUN) in await reading
            assert (new, BEGUN) in await joined
            second.leave()

    asyncio.run(scenario())


def test_a_feed_that_began_anew_is_noticed_at_its_first_event() -> None:
    acme = make_tenant("acme")
    task = make_task(acme)
    step(task)
    sequence()
    after = last_sequence()

    async def scenario() -> None:
        hub = FeedHub()
        async with watching(hub, task, acme.pk, after) as one:
            reading = asyncio.create_task(first_of(one))
            await until(lambda: hub.entries > 0)
            await in_thread(begin_anew)
            with pytest.raises(FeedReset):
                await reading

    asyncio.run(scenario())


def test_old_news_is_not_taken_for_a_feed_that_began_anew() -> None:
    acme = make_tenant("acme")
    task, other = make_task(acme), make_task(acme)
    step(other)
    sequence()
    after = last_sequence()
    assert after > 1

    async def scenario() -> None:
        hub = FeedHub()
        async with watching(hub, task, acme.pk, after) as one:
            reading = asyncio.create_task(first_of(one))
            await until(lambda: hub.entries > 0)
            asked = asyncio.create_task(until_next_query(reading))
            await in_thread(ask, "SELECT pg_notify('taskmill_feed', '1')::text")
            await asked
            await in_thread(step, task)
            await in_thread(sequence)
            assert (task, BEGUN) in await reading

    asyncio.run(scenario())


def begin_anew() -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE taskmill_feed, taskmill_event CASCADE")
    make_task(make_tenant("acme"))
    sequence()
