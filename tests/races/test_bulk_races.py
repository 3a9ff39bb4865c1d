"""Statements that change many tasks at once, against one another, each with its tasks in an order
of its own: as workers finish messages of many, operators act on lists, the engine sweeps.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from random import Random
from typing import Any

import pytest

from tasks_app import transitions
from tasks_app.db import connect
from tests.attempts import claim_all
from tests.races import duel
from tests.races.duel import LEASE, Arena

SIDES = 5
TURNS = 150
ACTS_IN_A_TURN = 4
TASKS = 150
KEYS = 5


@pytest.fixture
def arena(transactional_db: None) -> Iterator[Arena]:
    with connect("left") as left, connect("right") as right, connect("watcher") as watcher:
        yield Arena(left, right, watcher)


class Side:
    """One of those who change tasks, on a connection of its own.

    Attributes:
        sides: all of them. The process that renews a lease is not the one that ends the attempt.
        lead: held by who hands out: there is one dispatcher at a time.
    """

    lead = threading.Lock()

    def __init__(
        self, arena: Arena, tasks: list[uuid.UUID], number: int, sides: list[Side]
    ) -> None:
        self.arena, self.tasks, self.sides = arena, tasks, sides
        self.random = Random(number)
        self.owner = f"w{number}"
        self.claims: list[transitions.Claim] = []
        sides.append(self)

    def fight(self) -> None:
        with connect(self.owner) as connection:
            connection.execute("SET deadlock_timeout = '50ms'")
            for turn in range(TURNS):
                connection.execute(f"SET taskmill.clock_offset = '{turn * 5} seconds'")
                for act in self.random.choices(ACTS, k=ACTS_IN_A_TURN):
                    with self.lead if act in LEADING else nullcontext():
                        act(self, connection.cursor())

    def some(self, of: list[Any], most: int) -> list[Any]:
        return self.random.sample(of, min(most, len(of)))

    def let_go(self, most: int) -> list[transitions.Claim]:
        """Give some claims that are then this side's no more."""
        gone = self.some(self.claims, most)
        self.claims = [claim for claim in self.claims if claim not in gone]
        return gone

    def hints(self, cursor: Any) -> list[transitions.DispatchedTask]:
        """Hand out, and give the hints in any order."""
        found, _ = transitions.dispatch(cursor, queue="default", room=50)
        return self.some(list(found), 50)


Act = Callable[[Side, Any], object]


def take(side: Side, cursor: Any) -> None:
    if hints := [(hint.id, hint.dispatch_seq) for hint in side.hints(cursor)]:
        side.claims += claim_all(cursor, hints, side.owner, LEASE)


def take_from_others(side: Side, cursor: Any) -> None:
    transitions.undispatch(cursor, side.hints(cursor))


def return_(side: Side, cursor: Any) -> None:
    transitions.return_hints(cursor, [(hint.id, hint.dispatch_seq) for hint in side.hints(cursor)])


def stamp(side: Side, cursor: Any) -> None:
    transitions.mark_published(cursor, side.hints(cursor))


def succeed(side: Side, cursor: Any) -> None:
    gone = side.let_go(40)
    ends = [transitions.Success(id=one.id, epoch=one.epoch, result="{}") for one in gone]
    transitions.succeed(cursor, ends)


def fail(side: Side, cursor: Any) -> None:
    for claim in side.let_go(5):
        duel.failing(claim)(cursor)


def interrupt(side: Side, cursor: Any) -> None:
    held = [(claim.id, claim.epoch) for claim in side.let_go(40)]
    transitions.interrupt(cursor, held, reason="worker_shutdown")


def renew(side: Side, cursor: Any) -> None:
    everyones = [claim for one in side.sides for claim in one.claims]
    held = [(claim.id, claim.epoch) for claim in side.some(everyones, 60)]
    transitions.renew_leases(cursor, held, lease_seconds=LEASE)


def redrive(side: Side, cursor: Any) -> None:
    duel.redriving(side.arena, *side.some(side.tasks, 80))(cursor)


def cancel(side: Side, cursor: Any) -> None:
    for task_id in side.some(side.tasks, 3):
        duel.cancelling(side.arena, task_id)(cursor)


def clean(side: Side, cursor: Any) -> None:
    transitions.clean(
        cursor,
        tenant_id=side.arena.tenant,
        task_ids=side.some(side.tasks, 10),
        queue="default",
        state="cancelled",
        grace_seconds=0,
    )


LEADING: tuple[Act, ...] = (take, take_from_others, return_, stamp)
ACTS: tuple[Act, ...] = (
    *LEADING, succeed, fail, interrupt, renew, redrive, cancel, clean,
    lambda _, cursor: duel.rescuing(cursor),
    lambda _, cursor: duel.expiring(cursor),
    lambda _, cursor: duel.sweeping(cursor),
    lambda _, cursor: transitions.expire_pending(cursor),
    lambda _, cursor: transitions.promote(cursor),
    lambda _, cursor: transitions.take_back(cursor, queue="default"),
    lambda _, cursor: transitions.prune(cursor, dead=False, age_seconds=600, limit=5),
)  # fmt: skip


def test_lists_of_tasks_in_any_order_never_deadlock_and_leave_a_legal_history(arena: Arena) -> None:
    tasks = [arena.queued() for _ in range(TASKS // 2)]
    tasks += [
        arena.queued(concurrency_key=f"k{n % KEYS}", max_concurrency=4) for n in range(TASKS // 2)
    ]
    sides: list[Side] = []
    for number in range(SIDES):
        Side(arena, tasks, number, sides)
    with ThreadPoolExecutor(max_workers=SIDES) as pool:
        fights = [pool.submit(side.fight) for side in sides]
        faults = [fight.exception(timeout=120) for fight in fights]
    assert [fault for fault in faults if fault is not None] == []
    assert arena.violations() == []
    ends = arena.watcher.execute("SELECT DISTINCT outcome FROM taskmill_attempt").fetchall()
    assert {outcome for (outcome,) in ends} >= {"success", "failed", "interrupted", "lost"}
