"""Looks at the feed become rarer the more they cost, and never wait for long after silence."""

from __future__ import annotations

import pytest

from tasks_app.feed.pace import (
    FEW_EVENTS,
    LONG_REST_SECONDS,
    LONGEST_REST_SECONDS,
    MANY_EVENTS,
    SHORT_REST_SECONDS,
    Look,
    next_rest,
)


def rests(look: Look, *, rest: float = SHORT_REST_SECONDS) -> list[float]:
    """Give the rests while every look finds this, and news waits already."""
    found = []
    for _ in range(8):
        rest = next_rest(rest, look, waited_seconds=0.001)
        found.append(rest)
    return found


def look(*, events: int = 100, wakings: int = 0) -> Look:
    return Look(events=events, wakings=wakings)


@pytest.mark.parametrize(
    ("wakings", "longest"),
    [(0, LONG_REST_SECONDS), (10, LONG_REST_SECONDS), (40, 0.1), (5_000, LONGEST_REST_SECONDS)],
)
def test_looks_become_rarer_while_there_is_always_more_as_many_as_they_wake(
    wakings: int, longest: float
) -> None:
    found = rests(look(wakings=wakings))
    assert found == sorted(found)
    assert SHORT_REST_SECONDS < found[0] <= 2 * SHORT_REST_SECONDS
    assert found[-1] == pytest.approx(longest)


def test_an_event_after_silence_is_not_kept_waiting() -> None:
    [*_, rest] = rests(look(wakings=5_000))
    quiet = 2 * LONG_REST_SECONDS
    assert next_rest(rest, look(wakings=5_000), waited_seconds=quiet) == SHORT_REST_SECONDS


def test_looks_that_find_little_come_sooner_again() -> None:
    few = look(events=FEW_EVENTS - 1, wakings=5_000)
    assert rests(few, rest=LONGEST_REST_SECONDS)[-1] == SHORT_REST_SECONDS


def test_looks_that_find_more_than_a_buffer_holds_come_sooner_again() -> None:
    found = rests(look(events=MANY_EVENTS + 1, wakings=5_000), rest=LONGEST_REST_SECONDS)
    assert found[0] < LONGEST_REST_SECONDS
    assert found[-1] == SHORT_REST_SECONDS
