"""Two connections, both orders: one side wins, the other learns it, the history stays legal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import psycopg
import pytest

from tasks_app import transitions
from tasks_app.db import connect
from tests.races import duel
from tests.races.duel import Arena, Operation

FINISHES: dict[str, tuple[Callable[[transitions.Claim], Operation], str]] = {
    "succeed": (duel.succeeding, "success"),
    "fail": (duel.failing, "failed"),
    "retry": (duel.retrying, "retrying"),
    "interrupt": (duel.interrupting, "queued"),
    "lose": (duel.losing, "retrying"),
}


@pytest.fixture
def arena(transactional_db: None) -> Iterator[Arena]:
    with connect("left") as left, connect("right") as right, connect("watcher") as watcher:
        yield Arena(left, right, watcher)


@pytest.mark.parametrize("finish", FINISHES)
def test_a_finish_before_a_rescue_leaves_it_nothing(arena: Arena, finish: str) -> None:
    claim = arena.running()
    arena.set_clock("30 seconds")
    act, state = FINISHES[finish]
    won, rescued = arena.duel(act(claim), duel.rescuing)
    assert won
    assert rescued == 0
    assert arena.state_of(claim.id) == state
    assert arena.violations() == []


@pytest.mark.parametrize("finish", FINISHES)
def test_a_finish_after_a_rescue_is_refused(arena: Arena, finish: str) -> None:
    claim = arena.running()
    arena.set_clock("30 seconds")
    rescued, won = arena.duel(duel.rescuing, FINISHES[finish][0](claim))
    assert rescued == 1
    assert not won
    assert arena.state_of(claim.id) == "retrying"
    assert arena.violations() == []


@pytest.mark.parametrize("finish", FINISHES)
def test_a_finish_before_a_cancel_wins(arena: Arena, finish: str) -> None:
    claim = arena.running()
    act, state = FINISHES[finish]
    won, answer = arena.duel(act(claim), duel.cancelling(arena, claim.id))
    assert won
    is_over = state in {"success", "failed"}
    assert answer == (None if is_over else "cancelled")
    assert arena.state_of(claim.id) == (state if is_over else "cancelled")
    assert arena.violations() == []


@pytest.mark.parametrize("finish", FINISHES)
def test_a_finish_after_a_cancel_ends_the_task_and_never_repeats_it(
    arena: Arena, finish: str
) -> None:
    claim = arena.running()
    act, state = FINISHES[finish]
    answer, won = arena.duel(duel.cancelling(arena, claim.id), act(claim))
    assert answer == "cancelling"
    assert won
    assert arena.state_of(claim.id) == (state if state in {"success", "failed"} else "cancelled")
    assert arena.violations() == []


def test_a_renewal_before_a_rescue_keeps_the_lease(arena: Arena) -> None:
    claim = arena.running()
    arena.set_clock("30 seconds")
    renewed, rescued = arena.duel(duel.renewing(claim), duel.rescuing)
    assert (renewed, rescued) == (1, 0)
    assert arena.state_of(claim.id) == "running"


def test_a_renewal_after_a_rescue_learns_that_the_lease_is_lost(arena: Arena) -> None:
    claim = arena.running()
    arena.set_clock("30 seconds")
    rescued, renewed = arena.duel(duel.rescuing, duel.renewing(claim))
    assert (rescued, renewed) == (1, 0)


@pytest.mark.parametrize("is_cancel_first", [True, False])
def test_cancel_and_claim_leave_either_no_run_or_one_that_is_asked_to_stop(
    arena: Arena, is_cancel_first: bool
) -> None:
    hint = arena.dispatched()
    cancel, claim = duel.cancelling(arena, hint.id), duel.claiming(hint)
    if is_cancel_first:
        assert arena.duel(cancel, claim) == ("cancelled", None)
    else:
        claimed, answer = arena.duel(claim, cancel)
        assert claimed is not None
        assert answer == "cancelling"
    assert arena.violations() == []


def test_one_hint_delivered_twice_at_once_is_claimed_once(arena: Arena) -> None:
    hint = arena.dispatched()
    first, second = arena.duel(duel.claiming(hint, "a"), duel.claiming(hint, "b"))
    assert first.epoch == 1
    assert second is None
    assert arena.violations() == []


@pytest.mark.parametrize("is_claim_first", [True, False])
def test_a_claim_and_a_sweep_of_the_same_hint_exclude_each_other(
    arena: Arena, is_claim_first: bool
) -> None:
    hint = arena.dispatched()
    arena.set_clock("100 seconds")
    if is_claim_first:
        claimed, swept = arena.duel(duel.claiming(hint), duel.sweeping)
        assert claimed is not None
        assert swept == 0
    else:
        assert arena.duel(duel.sweeping, duel.claiming(hint)) == (1, None)
    assert arena.violations() == []


def test_two_dispatchers_hand_out_each_task_once(arena: Arena) -> None:
    tasks = {arena.queued() for _ in range(5)}
    first, second = arena.duel(duel.dispatching, duel.dispatching)
    assert set(first) == tasks
    assert second == []
    assert arena.violations() == []


@pytest.mark.parametrize("step", [duel.sweeping, duel.rescuing, duel.expiring])
def test_two_maintainers_take_each_task_once(arena: Arena, step: Operation) -> None:
    if step is duel.sweeping:
        arena.dispatched()
    else:
        arena.running()
    arena.set_clock("1000 seconds")
    assert arena.duel(step, step) == (1, 0)
    assert arena.violations() == []


def test_a_rescue_and_an_expiry_of_the_same_attempt_exclude_each_other(arena: Arena) -> None:
    arena.running()
    arena.set_clock("1000 seconds")
    assert arena.duel(duel.expiring, duel.rescuing) == (1, 0)
    assert arena.violations() == []


def test_a_task_redriven_by_two_operators_at_once_is_queued_once(arena: Arena) -> None:
    one, two = arena.failed(), arena.failed()
    first, second = arena.duel(duel.redriving(arena, two, one), duel.redriving(arena, one, two))
    assert set(first) == {one, two}
    assert second == []
    assert arena.violations() == []


def test_of_unique_twins_submitted_at_once_one_is_stored(arena: Arena) -> None:
    first, second = arena.duel(duel.submitting(arena, "u"), duel.submitting(arena, "u"))
    assert first is not None
    assert second is None
    assert arena.violations() == []


def test_a_redrive_against_a_submission_of_the_same_unique_key_is_refused(arena: Arena) -> None:
    task_id = arena.failed(unique_key="u")
    with pytest.raises(psycopg.errors.UniqueViolation):
        arena.duel(duel.submitting(arena, "u"), duel.redriving(arena, task_id))
    assert arena.state_of(task_id) == "failed"
    assert arena.violations() == []


def test_a_submission_against_a_redrive_of_the_same_unique_key_is_answered_as_a_twin(
    arena: Arena,
) -> None:
    task_id = arena.failed(unique_key="u")
    taken, made = arena.duel(duel.redriving(arena, task_id), duel.submitting(arena, "u"))
    assert taken == [task_id]
    assert made is None
    assert arena.violations() == []


def test_a_dispatch_before_a_revision_gives_a_hint_that_is_stale(arena: Arena) -> None:
    task_id = arena.queued()
    taken, state = arena.duel(duel.dispatching, duel.revising(arena, task_id))
    assert (taken, state) == ([task_id], "queued")
    stale = transitions.DispatchedTask(task_id, 1, "demo.echo", "default")
    assert duel.claiming(stale)(arena.watcher.cursor()) is None
    assert arena.violations() == []


def test_a_revision_before_a_dispatch_is_not_handed_out_under_its_feet(arena: Arena) -> None:
    task_id = arena.queued()
    state, taken = arena.duel(duel.revising(arena, task_id), duel.dispatching)
    assert (state, taken) == ("queued", [])
    assert duel.dispatching(arena.watcher.cursor()) == [task_id]
    assert arena.violations() == []


def test_a_publish_stamp_does_not_wait_for_a_transaction_that_cancels_the_task(
    arena: Arena,
) -> None:
    hint = arena.dispatched()
    arena.right.execute("SET lock_timeout = '1s'")
    arena.duel(
        duel.cancelling(arena, hint.id),
        lambda cursor: transitions.mark_published(cursor, [hint]),
    )
    assert arena.violations() == []


def test_a_hint_that_is_just_stamped_is_returned_all_the_same(arena: Arena) -> None:
    hint = arena.dispatched()
    _, returned = arena.duel(
        lambda cursor: transitions.mark_published(cursor, [hint]),
        lambda cursor: transitions.return_hints(cursor, [(hint.id, hint.dispatch_seq)]),
    )
    assert (returned, arena.state_of(hint.id)) == (1, "queued")
    assert arena.violations() == []


def test_a_hint_that_is_just_claimed_is_not_returned(arena: Arena) -> None:
    hint = arena.dispatched()
    claim, returned = arena.duel(
        duel.claiming(hint),
        lambda cursor: transitions.return_hints(cursor, [(hint.id, hint.dispatch_seq)]),
    )
    assert claim is not None
    assert (returned, arena.state_of(hint.id)) == (0, "running")
    assert arena.violations() == []


def test_four_sides_at_random_never_deadlock_and_leave_a_legal_history(arena: Arena) -> None:
    tasks = [arena.queued() for _ in range(6)]
    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(max_workers=4) as pool:
        sides = [pool.submit(_brawl, arena, tasks, seed, barrier) for seed in range(4)]
        for side in sides:
            side.result(timeout=60)
    assert arena.violations() == []


def _brawl(arena: Arena, tasks: list[Any], seed: int, barrier: threading.Barrier) -> None:
    random = Random(seed)
    claims: list[transitions.Claim] = []
    with connect("brawl") as connection:
        cursor = connection.cursor()
        connection.execute("SET taskmill.clock_offset = '0 seconds'")
        for turn in range(60):
            if turn % 20 == 0:
                barrier.wait(timeout=30)
            connection.execute(f"SET taskmill.clock_offset = '{turn * 10} seconds'")
            for hint in transitions.dispatch(cursor, queue="default", room=3)[0]:
                claims += filter(None, [duel.claiming(hint, f"w{seed}")(cursor)])
            for claim in random.sample(claims, min(2, len(claims))):
                random.choice([act for act, _ in FINISHES.values()])(claim)(cursor)
                duel.renewing(claim)(cursor)
            for step in (duel.rescuing, duel.expiring, duel.sweeping):
                step(cursor)
            transitions.promote(cursor)
            duel.redriving(arena, *random.sample(tasks, 4))(cursor)
            duel.cancelling(arena, random.choice(tasks))(cursor)
            duel.revising(arena, random.choice(tasks))(cursor)
