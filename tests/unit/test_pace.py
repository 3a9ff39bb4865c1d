"""The pace of a queue counts time with a backlog alone."""

from __future__ import annotations

import pytest

from tasks_app.dispatch.pace import HALF_LIFE_SECONDS, Pace, Paces


def backlog(pace: Pace, rounds: int, *, each: int, every: float, now: float = 0.0) -> float:
    """Go through rounds of a queue that has more than there is room for; gives the time after."""
    for _ in range(rounds):
        pace.learn(each, slots=2, now=now, has_backlog=True)
        now += every
    return now


def test_a_steady_backlog_gives_its_rate() -> None:
    pace = Pace()
    backlog(pace, 200, each=5, every=0.1)
    assert pace.per_second() == pytest.approx(50, rel=0.02)


def test_nothing_is_said_before_a_second_with_a_backlog() -> None:
    pace = Pace()
    backlog(pace, 10, each=5, every=0.1)
    assert pace.per_second() is None


def test_what_fills_free_slots_is_no_pace() -> None:
    pace = Pace()
    for now in (0.0, 0.1, 0.2, 5.0, 10.0):
        pace.learn(2 if now in {0.1, 10.0} else 0, slots=2, now=now, has_backlog=True)
    assert pace.per_second() == pytest.approx(0.2, rel=0.15)


def test_time_without_a_backlog_is_not_counted() -> None:
    pace = Pace()
    now = backlog(pace, 100, each=5, every=0.1)
    pace.learn(1, slots=2, now=now, has_backlog=False)
    before = pace.per_second()
    for second in range(1, 600):
        pace.learn(1, slots=2, now=now + second, has_backlog=False)
    assert pace.per_second() == before


def test_an_old_rate_fades_with_the_time_that_has_a_backlog() -> None:
    pace = Pace()
    now = backlog(pace, 300, each=10, every=0.1)
    backlog(pace, 10 * int(HALF_LIFE_SECONDS), each=1, every=1.0, now=now)
    assert pace.per_second() == pytest.approx(1, rel=0.2)


class Written:
    """A cursor that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, list[float]]] = []

    def execute(self, _query: object, values: dict[str, list[float]]) -> None:
        self.rows.append(values)


def test_paces_are_written_now_and_then_and_only_where_something_was_learnt() -> None:
    paces, cursor = Paces(), Written()
    for step in range(100):
        now = step / 10
        slots = {"busy": 2, "idle": 2} if step < 50 else {"idle": 2}
        paces.learn(["busy"] * 3, slots=slots, limited={"busy"}, now=now)
        paces.save(cursor, now=now)  # type: ignore[arg-type]  # it writes alone
    assert {tuple(row["queues"]) for row in cursor.rows} == {("busy",)}
    assert len(cursor.rows) == 3
    assert cursor.rows[-1]["paces"] == [pytest.approx(30, rel=0.1)]
