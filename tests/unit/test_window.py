"""How many hints may wait in the broker."""

from __future__ import annotations

from tasks_app.dispatch.window import Window


def test_a_queue_without_workers_gets_nothing() -> None:
    assert Window(least=8, most=1000).room(slots=0, outstanding=0, now=1.0) == 0


def test_a_window_is_never_less_than_twice_the_slots() -> None:
    assert Window(least=8, most=1000).room(slots=2, outstanding=0, now=1.0) == 8
    assert Window(least=8, most=1000).room(slots=30, outstanding=10, now=1.0) == 50


def test_slow_tasks_keep_the_window_small() -> None:
    window = Window(least=8, most=1000)
    outstanding, now = 0, 0.0
    for _ in range(500):
        room = window.room(slots=4, outstanding=outstanding, now=now)
        window.sent(room)
        outstanding += room
        outstanding -= 1 if outstanding else 0
        now += 0.25
    assert window.size(4) == 8


def test_fast_tasks_open_the_window_until_the_workers_are_never_dry() -> None:
    window = Window(least=8, most=1000)
    outstanding, dry = 0, 0
    for step in range(200):
        room = window.room(slots=4, outstanding=outstanding, now=step * 0.015)
        window.sent(room)
        outstanding = max(0, outstanding + room - 30)  # 2,000 tasks a second
        dry += outstanding == 0 and step > 20
    assert dry == 0
    assert 400 <= window.size(4) <= 1000


def test_a_window_never_exceeds_the_most() -> None:
    window = Window(least=8, most=100)
    for step in range(50):
        window.sent(window.room(slots=4, outstanding=0, now=step * 0.01))
    assert window.size(4) == 100
    assert window.size(400) == 100


def test_a_window_shrinks_again_when_tasks_become_slow() -> None:
    window = Window(least=8, most=1000)
    for step in range(20):
        window.sent(window.room(slots=4, outstanding=0, now=step * 0.015))
    assert window.size(4) == 1000
    for second in range(1, 40):
        window.room(slots=4, outstanding=1000, now=float(second))
    assert window.size(4) == 8


def test_a_refused_queue_rests_longer_each_time_and_recovers() -> None:
    window = Window(least=8, most=1000)
    assert window.room(slots=4, outstanding=0, now=0.0) == 8
    window.sent(8)
    rests = [window.answered(refused=8, now=0.0) for _ in range(7)]
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert window.room(slots=4, outstanding=0, now=1.9) == 0
    assert window.room(slots=4, outstanding=0, now=2.1) == 8
    assert window.answered(refused=0, now=2.1) == 0.0
    assert window.answered(refused=1, now=2.1) == 0.1


def drained(slots: int, *, per_second: int, seconds: float) -> tuple[int, int]:
    """Give the looks and the dry looks of a long backlog worked off at a steady rate."""
    window = Window(least=8, most=1000)
    now, worked, outstanding, looks, dry = 0.0, 0.0, 0, 0, 0
    while now < seconds:
        room = window.room(slots=slots, outstanding=outstanding, now=now)
        window.sent(room)
        wait = window.look_in()
        worked += per_second * wait
        outstanding = max(0, outstanding + room - int(worked))
        worked %= 1
        now += wait
        looks += 1
        dry += outstanding == 0 and now > seconds / 2
    return looks, dry


def test_looks_are_few_and_no_worker_runs_dry() -> None:
    for per_second in (20, 200, 1000, 3000):
        looks, dry = drained(2, per_second=per_second, seconds=10.0)
        assert dry == 0
        assert looks < 10 / 0.04


def test_an_unmeasured_queue_is_looked_at_soon() -> None:
    assert Window(least=8, most=1000).look_in() == 0.015


def test_a_window_that_ran_dry_is_looked_at_soon_until_it_does_not() -> None:
    window = begun()
    window.sent(window.room(slots=2, outstanding=0, now=0.7))
    assert window.look_in() == 0.015
    window.room(slots=2, outstanding=7, now=0.715)
    assert window.look_in() > 0.015


def begun() -> Window:
    """A window that has had a backlog of slow tasks for a while."""
    window = Window(least=8, most=1000)
    for outstanding, now in ((0, 0.0), (7, 0.4), (7, 0.6)):
        window.sent(window.room(slots=2, outstanding=outstanding, now=now))
    return window


def test_a_small_window_is_looked_at_soon_after_a_backlog_has_come() -> None:
    window = begun()
    assert window.look_in() > 0.015
    window.sent(window.room(slots=2, outstanding=7, now=60.0))  # after a minute without any
    assert window.look_in() == 0.015
    window.sent(window.room(slots=2, outstanding=7, now=60.4))
    window.sent(window.room(slots=2, outstanding=7, now=60.6))
    assert window.look_in() > 0.015


def test_a_backlog_of_fast_tasks_fills_the_window_within_a_few_looks() -> None:
    window = Window(least=8, most=1000)
    now = 0.0
    while window.size(2) < 1000 and now < 1.0:  # the workers take all at once
        window.sent(window.room(slots=2, outstanding=0, now=now))
        now += window.look_in()
    assert now < 0.1


def narrowed(*, slots: int, a_second: int, round_seconds: float) -> tuple[Window, int]:
    """Let workers take tasks of a shared queue for a while, in rounds; gives how often they ran
    dry in the second half.
    """
    window = Window(least=8, most=1000)
    outstanding, dry, owed, rounds, free = 0, 0, 0.0, int(10 / round_seconds), slots
    for step in range(rounds):
        now = step * round_seconds
        room = window.room(slots=slots, outstanding=outstanding, now=now, free_slots=free)
        window.sent(room)
        outstanding += room
        owed += a_second * round_seconds
        taken = min(outstanding, int(owed))
        is_dry = taken < int(owed)
        outstanding, owed = outstanding - taken, 0.0 if is_dry else owed - taken
        free = slots if is_dry else 0
        dry += is_dry and step > rounds / 2
    return window, dry


def test_a_narrow_window_of_slow_tasks_holds_little_that_another_would_wait_for() -> None:
    window, _ = narrowed(slots=8, a_second=80, round_seconds=0.015)
    assert window.size(8, 0) <= 3
    assert window.size(8, 5) - window.size(8, 0) == 5


def test_a_narrow_window_of_tasks_of_30_ms_holds_25_ms_of_work() -> None:
    window, dry = narrowed(slots=8, a_second=260, round_seconds=0.015)
    assert dry == 0
    assert window.size(8, 0) <= 8


def test_a_narrow_window_of_fast_tasks_never_lets_the_workers_run_dry() -> None:
    window, dry = narrowed(slots=2, a_second=4000, round_seconds=0.05)
    assert dry == 0
    assert window.size(2, 0) >= 400
