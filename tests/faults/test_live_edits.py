"""Every rule is changed through the API under a steady load; the ledger shows that it holds.

A change holds for what is handed out after it: tasks that are out already may start and go on. The
checks are exact, whatever the machine's load: a task that runs holds its slot from before its first
line of the ledger until after its last, and starts after it was handed out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from tests.environment import RUN_DIRECTORY
from tests.faults.ledger import beside, most_in_a_window, read_runs
from tests.faults.live_load import OWN_LIMITS, QUEUE, Load, Seen
from tests.faults.platform import Platform
from tests.processes import wait_for

OF_QUEUE, OF_TYPE, OF_KEY = f"/queues/{QUEUE}", "/task-types/fault.work", "/concurrency-keys/one"
TIGHT_STARTS = 6
FIRSTS, BATCH = 20, 30
ORDERS = ("newest", "oldest", "priority")
SLOTS = 4


@pytest.fixture
def load() -> Iterator[Load]:
    directory = RUN_DIRECTORY / "faults-live-edits"
    directory.mkdir()
    directory.chmod(0o755)
    platform = Platform(directory, broker=None)
    try:
        platform.start()
        yield Load(platform)
    finally:
        platform.stop()


@dataclass(frozen=True)
class Edit:
    """A rule that is tightened, loosened and lifted: of one key's tasks, or of all of the queue."""

    path: str
    tight: Any
    loose: Any
    kind: str | None = None
    seconds: int = field(default=1, kw_only=True)


SLOT_EDITS = (
    Edit(OF_KEY, 1, 2, "one"),
    Edit(OF_TYPE, 1, 2),
    Edit(OF_QUEUE, 1, 2),
)
RATE_EDITS = (
    Edit(OF_QUEUE, 3, 12),
    Edit(OF_TYPE, 3, 12),
    Edit(OF_KEY, 3, 12, "one"),
)


def change(load: Load, path: str, **settings: Any) -> float:
    """Change a rule; gives the instant from which it holds."""
    answer = load.platform.request("PATCH", path, settings)
    assert answer.status_code == 200, answer.text
    return load.mark()


def has_started(load: Load, since: float, kind: str | None, count: int) -> bool:
    assert load.fault is None, load.fault
    return len(load.seen(since, kind=kind).starts) >= count


def check_slots(seen: Seen, limit: int) -> int:
    """Give the most that ran at once when a task started that was handed out since."""
    most = max(beside(run, seen.runs) for run in seen.starts)
    assert most <= limit, f"{most} at once with a limit of {limit}"
    return most


def edit_slots(load: Load, edit: Edit) -> None:
    since = change(load, edit.path, concurrency=edit.tight)
    wait_for(lambda: has_started(load, since, edit.kind, TIGHT_STARTS), seconds=30)
    check_slots(load.seen(since, kind=edit.kind), edit.tight)
    since = change(load, edit.path, concurrency=edit.loose)
    wait_for(lambda: has_started(load, since, edit.kind, 1), seconds=30)
    wait_for(
        lambda: check_slots(load.seen(since, kind=edit.kind), edit.loose) == edit.loose,
        seconds=30,
        reason=f"{edit.path}: the new room is not used",
    )
    change(load, edit.path, concurrency=None)
    print(f"{edit.path}: concurrency {edit.tight}, then {edit.loose}")


def edit_share(load: Load) -> None:
    """Change what a tenant may hold of the queue's slots: one of them, two, all."""
    since = change(load, OF_QUEUE, max_share=100 // SLOTS)
    wait_for(lambda: has_started(load, since, None, TIGHT_STARTS), seconds=30)
    check_slots(load.seen(since), 1)
    since = change(load, OF_QUEUE, max_share=200 // SLOTS)
    wait_for(lambda: has_started(load, since, None, 1), seconds=30)
    wait_for(lambda: check_slots(load.seen(since), 2) == 2, seconds=30)
    change(load, OF_QUEUE, max_share=None)


def check_rate(load: Load, seen: Seen, since: float, edit: Edit, rate: int) -> int:
    """Hold hand-outs and the ledger to a rate; gives the most starts of any window."""
    assert most_in_a_window(seen.times, seconds=edit.seconds) <= rate
    ahead = load.platform.clock_ahead()
    for number, run in enumerate(seen.starts, start=1):
        windows = (run.start + ahead - since) // edit.seconds + 1
        assert number <= rate * windows, f"{number} starts in {windows} windows of {rate}"
    return most_in_a_window([run.start for run in seen.starts], seconds=edit.seconds)


def edit_rate(load: Load, edit: Edit) -> None:
    since = change(load, edit.path, rate=f"{edit.tight}/{edit.seconds}s")
    wait_for(lambda: has_started(load, since, edit.kind, TIGHT_STARTS), seconds=30)
    check_rate(load, load.seen(since, kind=edit.kind), since, edit, edit.tight)
    since = change(load, edit.path, rate=f"{edit.loose}/{edit.seconds}s")
    wait_for(
        lambda: (
            check_rate(load, load.seen(since, kind=edit.kind), since, edit, edit.loose)
            > edit.tight + 1
        ),
        seconds=30,
        reason=f"{edit.path}: the new rate is not used",
    )
    change(load, edit.path, rate=None)
    print(f"{edit.path}: rate {edit.tight}/{edit.seconds}s, then {edit.loose}/{edit.seconds}s")


def most_ahead(load: Load, since: float) -> int:
    """Give how many tasks were handed out and not started, at most, when one more went."""
    ahead, seen = load.platform.clock_ahead(), load.seen(since)
    starts = sorted(run.start + ahead for run in seen.starts)
    return max(
        number - sum(start < at for start in starts)
        for number, at in enumerate(seen.times, start=1)
    )


def edit_window(load: Load) -> None:
    since = change(load, OF_QUEUE, window_least=1, window_most=1)
    wait_for(lambda: has_started(load, since, None, 3 * TIGHT_STARTS), seconds=30)
    tight = most_ahead(load, since)
    assert tight <= 1 + SLOTS, "a window of one, and what the workers have taken of it"
    since = change(load, OF_QUEUE, window_least=25, window_most=50)
    wait_for(lambda: has_started(load, since, None, 1), seconds=30)
    wait_for(lambda: most_ahead(load, since) > 2 * SLOTS, seconds=30)
    print(f"window: {tight} handed out ahead of starts, then {most_ahead(load, since)}")
    change(load, OF_QUEUE, window_least=2, window_most=4)


def edit_order(load: Load, order: str) -> None:
    """Change the order, add a batch of the highest priority yet, and look who goes next."""
    change(load, OF_QUEUE, order=order)
    wait_for(lambda: sum(not load.keys.get(one) for one in load.waiting()) > BATCH, seconds=30)
    older = load.waiting()  # before the batch: the load goes on, and what comes then is newer
    batch = set(load.submit(BATCH, priority=1 + ORDERS.index(order)))
    since = load.mark()
    wait_for(lambda: has_started(load, since, None, FIRSTS), seconds=30)
    firsts = {run.task for run in load.seen(since).starts[:FIRSTS]}
    wrong = {
        "priority": firsts - batch,
        "oldest": firsts - older,
        "newest": firsts & older,
    }[order]
    assert not wrong, f"{len(wrong)} of {FIRSTS} are out of order: {order}"
    print(f"order {order}: {len(firsts & batch)} of {FIRSTS} are of the batch")


def pause_and_resume(load: Load) -> None:
    change(load, OF_QUEUE, window_least=None, window_most=None)
    answer = load.platform.request("POST", f"{OF_QUEUE}/pause", {"reason": "a look"})
    answered_at = time.monotonic()
    assert answer.json()["is_paused"], answer.text
    paused_at = datetime.fromisoformat(answer.json()["paused_at"]).timestamp()
    since = load.mark()
    beside_it = set(load.submit(BATCH, queue="elsewhere"))
    wait_for(
        lambda: beside_it <= {run.task for run in read_runs(load.platform.ledger)},
        seconds=40,
        reason="tasks of another queue do not go on",
    )
    assert load.seen(since).times == [], "handed out after the pause was answered"
    starts = [run.start for run in read_runs(load.platform.ledger) if run.task not in beside_it]
    waiting = load.waiting()
    assert waiting
    late = max(starts) - answered_at
    assert late <= 1, f"a start {late:.3f} s after the answer"
    after_pause = max(starts) + load.platform.clock_ahead() - paused_at
    print(f"pause: the last start {after_pause * 1000:+.0f} ms after it, {len(waiting)} wait")
    assert load.platform.request("POST", f"{OF_QUEUE}/resume").status_code == 200
    wait_for(lambda: has_started(load, since, None, TIGHT_STARTS), seconds=30)


def test_every_rule_is_changed_under_load_and_holds_and_a_pause_loses_nothing(load: Load) -> None:
    load.platform.submit("fault.work", queue=QUEUE)
    load.start()
    wait_for(lambda: has_started(load, 0.0, None, sum(OWN_LIMITS.values())), seconds=30)
    for edit in SLOT_EDITS:
        edit_slots(load, edit)
    edit_share(load)
    for edit in RATE_EDITS:
        edit_rate(load, edit)
    load.kinds = ("",)
    wait_for(lambda: "" in map(load.keys.get, load.waiting()), seconds=30)
    for step in (edit_window, *(partial(edit_order, order=o) for o in ORDERS), pause_and_resume):
        step(load)
    load.stop()
    load.platform.drain()
    load.platform.check()
