"""Who gets which live event: subscriptions that want the same are matched and served as one."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from tasks_app.feed.batch import Batch
from tasks_app.feed.event import PUBLIC_EVENTS, FeedEvent
from tasks_app.feed.subscription import Subscription, Wanted

MOST_NAMED_TASKS: Final = 1000
"""Of more tasks than these, a look asks for everything: the list would cost more than it saves."""


class Audience:
    """Live subscriptions that want the same."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.members: set[Subscription] = set()


@dataclass(frozen=True, slots=True)
class Reach:
    """What is worth reading: events that somebody may get are among these.

    Attributes:
        types: None for all.
        tasks: ids as a PostgreSQL array; None for all.
    """

    types: list[str] | None = None
    tasks: str | None = None


EVERYTHING: Final = Reach()


@dataclass(frozen=True, slots=True)
class HandedOut:
    """What was given: `events`, counted for each taker, to so many `subscriptions`."""

    events: int
    subscriptions: int


class Audiences:
    """The live subscriptions of a hub, found by task, tag or tenant."""

    def __init__(self) -> None:
        self._all: dict[Wanted, Audience] = {}
        self._by_place: defaultdict[Hashable, set[Audience]] = defaultdict(set)
        self._reach: Reach | None = None

    @property
    def entries(self) -> int:
        """How many places hold something; 0 when nobody is live."""
        return len(self._by_place) + sum(len(one.members) for one in self._all.values())

    @property
    def wanted(self) -> Collection[Wanted]:
        """What somebody wants, each once."""
        return self._all.keys()

    def join(self, subscription: Subscription) -> None:
        """Give a subscription what comes from now on."""
        wanted = subscription.wanted
        audience = self._all.get(wanted)
        if audience is None:
            audience = self._all[wanted] = Audience(wanted)
            for place in _places(wanted):
                self._by_place[place].add(audience)
            self._reach = None
        audience.members.add(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Give it nothing more; may be repeated."""
        wanted = subscription.wanted
        audience = self._all.get(wanted)
        if audience is None:
            return
        audience.members.discard(subscription)
        if audience.members:
            return
        del self._all[wanted]
        self._reach = None
        for place in _places(wanted):
            self._by_place[place].discard(audience)
            if not self._by_place[place]:
                del self._by_place[place]

    @property
    def reach(self) -> Reach:
        """What is worth reading; the same object until that changes."""
        if self._reach is None:
            self._reach = _reach_of(self.wanted)
        return self._reach

    def hand_out(self, events: Iterable[FeedEvent]) -> HandedOut:
        """Give each audience what it wants of a page."""
        found: defaultdict[Audience, list[FeedEvent]] = defaultdict(list)
        for event in events:
            for audience in self._interested(event):
                if audience.wanted.takes(event):
                    found[audience].append(event)
        deliveries = subscriptions = 0
        for audience, taken in found.items():
            batch = Batch(tuple(taken))
            deliveries += len(taken) * len(audience.members)
            subscriptions += len(audience.members)
            for subscription in audience.members:
                subscription.push(batch)
        return HandedOut(deliveries, subscriptions)

    def _interested(self, event: FeedEvent) -> Iterable[Audience]:
        """Give who may want an event, each once; one of the installation may be for anybody."""
        if event.tenant_id is None:
            return self._all.values()
        places: list[Any] = [(event.tenant_id,), event.task_id]
        places += [(event.tenant_id, tag) for tag in event.tags]
        found = [self._by_place[place] for place in places if place in self._by_place]
        return found[0] if len(found) == 1 else set[Audience]().union(*found)


def _places(wanted: Wanted) -> list[Any]:
    """Give where an audience stands: under its tasks, or else its tags, or else its tenant."""
    if wanted.tasks:
        return list(wanted.tasks)
    if wanted.tags:
        return [(wanted.tenant_id, tag) for tag in wanted.tags]
    return [(wanted.tenant_id,)]


def _reach_of(all_wanted: Collection[Wanted]) -> Reach:
    types = set[str]().union(*(one.types or PUBLIC_EVENTS for one in all_wanted))
    return Reach(types=sorted(types), tasks=_named_tasks(all_wanted))


def _named_tasks(all_wanted: Iterable[Wanted]) -> str | None:
    named: set[uuid.UUID] = set()
    for wanted in all_wanted:
        named |= wanted.tasks
        if not wanted.tasks or len(named) > MOST_NAMED_TASKS:
            return None
    return "{" + ",".join(map(str, named)) + "}"
