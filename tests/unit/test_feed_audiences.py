"""Live events reach exactly those who want them, and what is the same for several is made once."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tasks_app.events import EventType
from tasks_app.feed import FeedEvent, SlowSubscriber, Subscription, Wanted
from tasks_app.feed.audiences import MOST_NAMED_TASKS, Audiences
from tasks_app.feed.batch import MOST_FORMS, Batch
from tasks_app.feed.event import feed_event
from tasks_app.feed.subscription import MOST_BYTES, MOST_EVENTS

TASKS = [uuid.UUID(int=number) for number in range(6)]
TAGS = ["red", "green", "blue"]
TYPES = ["task.created", "task.dispatched", "task.progress", "worker.lost"]


class Live:
    """A source whose subscriptions are live at once."""

    def __init__(self) -> None:
        self.audiences = Audiences()

    async def started(self) -> None:
        """It always is."""

    async def read(self, wanted: Wanted, after: int) -> tuple[list[FeedEvent], int]:
        """There is nothing from before."""
        return [], after

    def join(self, subscription: Subscription, after: int) -> bool:
        """Join."""
        self.audiences.join(subscription)
        return True

    def leave(self, subscription: Subscription) -> None:
        """Leave."""
        self.audiences.leave(subscription)

    def open(self, wanted: Wanted, after: int = 0) -> Subscription:
        """Give a subscription that is live."""
        made = Subscription(self, wanted, after=after, holder="", key_id="")
        self.join(made, after)
        return made


def event(sequence: int, **fields: Any) -> FeedEvent:
    row = {
        "id": sequence,
        "sequence": sequence,
        "task_id": TASKS[0],
        "tenant_id": 1,
        "seq": sequence,
        "type": "task.progress",
        "tags": [],
        "at": None,
        "from_state": "running",
        "state": "running",
        "attempt": 1,
        "actor": "",
        "data": None,
        "subject": "",
    }
    return feed_event(row | fields)


def chosen(source: random.Random, names: list[Any], most: int = 2) -> frozenset[Any]:
    return frozenset(source.sample(names, source.randint(0, most)))


def some_wanted(source: random.Random) -> Wanted:
    return Wanted(
        tenant_id=source.randint(1, 2),
        tasks=chosen(source, TASKS),
        tags=chosen(source, TAGS),
        types=chosen(source, TYPES),
    )


def some_event(source: random.Random, sequence: int) -> FeedEvent:
    if source.random() < 0.1:
        return event(sequence, task_id=None, tenant_id=None, type="worker.lost", data="{}")
    return event(
        sequence,
        task_id=source.choice(TASKS),
        tenant_id=source.randint(1, 2),
        type=source.choice(TYPES[:3]),
        tags=sorted(chosen(source, TAGS)),
    )


async def taken(subscription: Subscription) -> list[FeedEvent]:
    found: list[FeedEvent] = []
    while batch := (await subscription.next(0)).events:
        found += batch
    return found


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(10))
def test_each_gets_what_it_takes_once_in_order_and_nothing_else(seed: int) -> None:
    source = random.Random(seed)

    async def scenario() -> None:
        live = Live()
        everybody = [live.open(some_wanted(source)) for _ in range(60)]
        for begin in range(1, 1000, 50):
            page = [some_event(source, begin + place) for place in range(50)]
            live.audiences.hand_out(page)
            for one in everybody:
                assert await taken(one) == [this for this in page if one.wanted.takes(this)]
            gone = everybody.pop()
            gone.leave()
            everybody.append(live.open(some_wanted(source), after=begin + 49))
        for one in everybody:
            one.leave()
        assert live.audiences.entries == 0

    run(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_what_somebody_takes_is_within_reach(seed: int) -> None:
    source = random.Random(seed)

    async def scenario() -> None:
        live = Live()
        for _ in range(30):
            live.open(some_wanted(source))
            reach = live.audiences.reach
            assert reach.types is not None
            for place in range(50):
                one = some_event(source, place)
                if any(wanted.takes(one) for wanted in live.audiences.wanted):
                    assert one.type in reach.types
                    assert reach.tasks is None or str(one.task_id) in reach.tasks

    run(scenario)


def test_a_look_names_the_tasks_that_are_watched_while_they_are_few() -> None:
    async def scenario() -> None:
        live = Live()
        one = live.open(Wanted(tenant_id=1, tasks=frozenset({TASKS[1]})))
        assert live.audiences.reach.tasks == f"{{{TASKS[1]}}}"
        crowd = [
            live.open(Wanted(tenant_id=1, tasks=frozenset({uuid.uuid4()})))
            for _ in range(MOST_NAMED_TASKS)
        ]
        assert live.audiences.reach.tasks is None
        crowd[0].leave()
        assert live.audiences.reach.tasks is not None
        live.open(Wanted(tenant_id=1))
        assert live.audiences.reach.tasks is None
        one.leave()

    run(scenario)


def test_who_wants_the_same_is_given_the_same_batch_encoded_once() -> None:
    async def scenario() -> None:
        live = Live()
        everybody = [live.open(Wanted(tenant_id=1)) for _ in range(3)]
        given = live.audiences.hand_out([event(1), event(2)])
        assert (given.events, given.subscriptions) == (6, 3)
        batches = [await one.next(0) for one in everybody]
        assert batches[0] is batches[1] is batches[2]
        made = [one.form("text", list) for one in batches]
        assert made[0] is made[1] is made[2]

    run(scenario)


def test_a_batch_keeps_few_forms() -> None:
    batch = Batch((event(1),))
    first = [batch.form(name, list) for name in range(MOST_FORMS + 1)]
    again = [batch.form(name, list) for name in range(MOST_FORMS + 1)]
    assert [one is other for one, other in zip(first, again, strict=True)] == [
        *[True] * MOST_FORMS,
        False,
    ]


def test_who_begins_later_is_not_given_what_it_has() -> None:
    async def scenario() -> None:
        live = Live()
        late = live.open(Wanted(tenant_id=1), after=2)
        live.audiences.hand_out([event(1), event(2)])
        live.audiences.hand_out([event(2), event(3)])
        assert [one.sequence for one in await taken(late)] == [3]
        assert late.cursor == 3

    run(scenario)


def test_a_full_buffer_keeps_the_newest_progress_and_ends_with_the_cursor_when_full_of_others() -> (
    None
):
    async def scenario() -> None:
        live = Live()
        slow = live.open(Wanted(tenant_id=1))
        live.audiences.hand_out([event(1)])
        assert [one.sequence for one in (await slow.next(0)).events] == [1]
        for begin in range(2, MOST_EVENTS + 102, 100):
            live.audiences.hand_out([event(begin + place) for place in range(100)])
        assert [one.sequence for one in await taken(slow)] == [MOST_EVENTS + 101]
        cursor = slow.cursor
        others = [event(5_000 + place, type=EventType.CREATED) for place in range(MOST_EVENTS + 1)]
        live.audiences.hand_out(others)
        with pytest.raises(SlowSubscriber) as ended:
            await slow.next(0)
        assert ended.value.fields["cursor"] == cursor

    run(scenario)


def test_a_buffer_is_bounded_in_bytes() -> None:
    async def scenario() -> None:
        live = Live()
        slow = live.open(Wanted(tenant_id=1))
        large = '{"text": "' + "x" * (MOST_BYTES // 4) + '"}'
        for place in range(4):
            assert not slow.is_ended
            live.audiences.hand_out([event(place + 1, type=EventType.CREATED, data=large)])
        assert slow.is_ended

    run(scenario)
