"""Limits hold while workers and engines die: slots in the ledger that handlers write, rates in what
was handed out, which is what they promise (docs/adr/0013); starts follow that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.environment import RUN_DIRECTORY
from tests.faults.ledger import Run, most_at_once, most_in_a_window, read_runs
from tests.faults.platform import Platform
from tests.processes import wait_for

LIMITS = {"one": 1, "two": 2, "three": 3}
TYPE_LIMIT = 3
RATE, RATE_SECONDS = 6, 3
TASKS = 8
CLOCKS_APART = 0.05
"""The database's clock is the machine's; how far the ledger's is from it is measured."""


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    directory = RUN_DIRECTORY / "faults-limits"
    directory.mkdir()
    directory.chmod(0o755)
    found = Platform(directory, broker=None)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def runs_in(platform: Platform) -> list[Run]:
    return read_runs(platform.ledger)


def submit_all(platform: Platform) -> dict[str, set[str]]:
    """Submit tasks of three keys, all of one limited type; gives their ids by key."""
    found: dict[str, set[str]] = {}
    for number in range(TASKS):
        for key, limit in LIMITS.items():
            options = {"concurrency_key": key, "max_concurrency": limit}
            task_id = platform.submit("fault.work", seconds=0.2 + number % 3 / 10, **options)
            found.setdefault(key, set()).add(str(task_id))
    return found


def kill_a_worker_and_the_leader(platform: Platform) -> float:
    """Kill both and start them anew; gives when the worker was killed."""
    killed_at = time.monotonic()
    platform.kill_part("worker-1")
    holder = platform.query("SELECT holder FROM taskmill_leader WHERE loop = 'dispatch'")[0][0]
    leading = [
        name
        for name, part in platform.parts.items()
        if name.startswith("engine") and f":{part.pid}" in holder
    ]
    for name in leading:
        platform.kill_part(name)
    for name in ("worker-1", *leading):
        platform.start_part(name)
    return killed_at


def test_no_limit_is_passed_in_the_ledger_while_a_worker_and_the_engine_are_killed(
    platform: Platform,
) -> None:
    path = "/task-types/fault.work"
    assert platform.request("PATCH", path, {"concurrency": TYPE_LIMIT}).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(submit_all, platform)
        wait_for(lambda: len(runs_in(platform)) >= 4, seconds=30)
        killed_at = kill_a_worker_and_the_leader(platform)
        tasks = submitting.result(60)
    platform.drain()
    platform.check()
    found = runs_in(platform)
    assert 1 < most_at_once(found, killed_at=killed_at) <= TYPE_LIMIT
    for key, limit in LIMITS.items():
        mine = [run for run in found if run.task in tasks[key]]
        most = most_at_once(mine, killed_at=killed_at)
        assert most <= limit, f"{most} of {key} ran at once"
    for key in LIMITS:
        assert platform.request("GET", f"/concurrency-keys/{key}").status_code == 404, "a leak"
    assert platform.request("GET", path).json()["limits"]["used"] == 0


def test_a_tenant_holds_no_more_slots_than_its_share_while_a_worker_and_the_engine_are_killed(
    platform: Platform,
) -> None:
    """A quarter of 4 slots is one, and of 6 too: a killed worker counts for its lease."""
    made = platform.request("POST", "/queues", {"name": "shared", "max_share": 25})
    assert made.status_code == 201
    lifted = platform.request("PATCH", "/task-types/fault.work", {"concurrency": None})
    assert lifted.status_code == 200
    tasks = {str(platform.submit("fault.work", seconds=0.3, queue="shared")) for _ in range(12)}
    wait_for(lambda: len(runs_of(platform, tasks)) >= 3, seconds=30)
    killed_at = kill_a_worker_and_the_leader(platform)
    platform.drain()
    platform.check()
    found = runs_of(platform, tasks)
    assert {run.task for run in found} == tasks
    assert most_at_once(found, killed_at=killed_at) == 1


def test_no_window_sees_more_handed_out_than_the_rate_while_the_engine_is_killed(
    platform: Platform,
) -> None:
    limits = {"concurrency": None, "rate": f"{RATE}/{RATE_SECONDS}s"}
    assert platform.request("PATCH", "/task-types/fault.work", limits).status_code == 200
    tasks = {str(platform.submit("fault.work")) for _ in range(3 * RATE)}
    wait_for(lambda: len(runs_of(platform, tasks)) >= RATE, seconds=30)
    for name in [name for name in platform.parts if name.startswith("engine")]:
        platform.kill_part(name)
        platform.start_part(name)
    platform.drain()
    handed_out = [at for _, at in hand_outs(platform, tasks)]
    assert most_in_a_window(handed_out, seconds=RATE_SECONDS) <= RATE
    first_handed_out = dict(reversed(hand_outs(platform, tasks)))
    ahead = platform.clock_ahead()
    starts = {run.task: run.start + ahead for run in runs_of(platform, tasks)}
    assert starts.keys() == tasks
    assert all(starts[task] >= first_handed_out[task] - CLOCKS_APART for task in tasks)
    assert platform.request("PATCH", "/task-types/fault.work", {"rate": None}).status_code == 200


def runs_of(platform: Platform, tasks: set[str]) -> list[Run]:
    return [run for run in runs_in(platform) if run.task in tasks]


def hand_outs(platform: Platform, tasks: set[str]) -> list[tuple[str, float]]:
    """Give each time that one of the tasks was handed out, in order."""
    found = platform.query(
        "SELECT task_id::text, extract(epoch FROM at)::float8 FROM taskmill_event"
        " WHERE type = 'task.dispatched' AND task_id::text = ANY(%s) ORDER BY at",
        sorted(tasks),
    )
    return [(task, at) for task, at in found]
