"""The state table is complete and closed."""

from __future__ import annotations

from collections import deque

import pytest

from tasks_app.states import (
    DEAD_LETTERS,
    FINISHED,
    PENDING,
    PROCESSING,
    REDRIVABLE,
    TRANSITIONS,
    State,
    Status,
    Verb,
    states_of,
    status_of,
)


def test_every_state_is_pending_processing_or_finished_and_only_one_of_them() -> None:
    assert set(State) == PENDING | PROCESSING | FINISHED
    assert len(PENDING) + len(PROCESSING) + len(FINISHED) == len(State)


def test_the_statuses_are_the_seven_words_of_the_contract() -> None:
    words = {"pending", "processing", "success", "failed", "error", "cancelled", "timeout"}
    assert {status.value for status in Status} == words


@pytest.mark.parametrize("status", Status)
def test_a_status_stands_for_the_states_that_show_it(status: Status) -> None:
    assert states_of(status)
    assert {status_of(state) for state in states_of(status)} == {status}


def test_every_verb_has_its_moves() -> None:
    assert set(TRANSITIONS) == set(Verb)


def test_only_a_redrive_leaves_a_final_state() -> None:
    for verb, moves in TRANSITIONS.items():
        if verb is not Verb.REDRIVE:
            assert not FINISHED & set(moves)
    assert set(TRANSITIONS[Verb.REDRIVE]) == REDRIVABLE
    assert DEAD_LETTERS < REDRIVABLE
    assert State.SUCCESS not in REDRIVABLE


def test_every_state_can_be_reached_and_every_live_one_can_finish() -> None:
    edges: set[tuple[State | None, State | None]] = {
        (start, end)
        for moves in TRANSITIONS.values()
        for start, ends in moves.items()
        for end in ends
    }
    assert _reach(edges, {None}) == {None, *State}
    backwards: set[tuple[State | None, State | None]] = {(b, a) for a, b in edges if a is not None}
    assert _reach(backwards, set(FINISHED)) == set(State)


def _reach(
    edges: set[tuple[State | None, State | None]], start: set[State | None]
) -> set[State | None]:
    reached, todo = set(start), deque(start)
    while todo:
        here = todo.popleft()
        for a, b in edges:
            if a == here and b not in reached:
                reached.add(b)
                todo.append(b)
    return reached
