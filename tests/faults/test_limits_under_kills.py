"""Limits hold where it counts: in the ledger that handlers write while workers and engines die.

Intervals of handlers are compared by the machine's monotonic clock. A killed worker's handler
writes no end: its interval lasts until the kill, at least.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.environment import RUN_DIRECTORY
from tests.faults.platform import Platform
from tests.processes import wait_for

LIMITS = {"one": 1, "two": 2, "three": 3}
TYPE_LIMIT = 3
RATE, RATE_SECONDS = 6, 3
TASKS = 8


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


@dataclass(frozen=True)
class Run:
    """An attempt as its handler wrote it; without an end it died with its worker."""

    task: str
    start: float
    end: float | None


def runs(platform: Platform) -> list[Run]:
    """Read the ledger."""
    starts: dict[tuple[str, str], float] = {}
    ends: dict[tuple[str, str], float] = {}
    for line in platform.ledger.read_text().splitlines():
        word, task, epoch, _, at = line.split()
        (starts if word == "start" else ends)[task, epoch] = float(at)
    return [Run(key[0], at, ends.get(key)) for key, at in starts.items()]


def most_at_once(found: list[Run], *, killed_at: float) -> int:
    """Give how many intervals overlap at most; ends come before starts of the same instant.

    An interval without an end lasted until its worker was killed, at least.
    """
    steps = [(run.start, 1) for run in found]
    steps += [(run.end or max(run.start, killed_at), -1) for run in found]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def submit_all(platform: Platform) -> dict[str, set[str]]:
    """Submit tasks of three keys, all of one limited type; gives their ids by key."""
    found: dict[str, set[str]] = {}
    for number in range(TASKS):
        for key, limit in LIMITS.items():
            options = {"concurrency_key": key, "max_concurrency": limit}
            task_id = platform.submit("fault.work", seconds=0.2 + number % 3 / 10, **options)
            found.setdefault(key, set()).add(str(task_id))
    return found


def test_no_limit_is_passed_in_the_ledger_while_a_worker_and_the_engine_are_killed(
    platform: Platform,
) -> None:
    path = "/task-types/fault.work"
    assert platform.request("PATCH", path, {"concurrency": TYPE_LIMIT}).status_code == 200
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(submit_all, platform)
        wait_for(lambda: len(runs(platform)) >= 4, seconds=30)
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
        tasks = submitting.result(60)
    platform.drain()
    platform.check()
    found = runs(platform)
    assert 1 < most_at_once(found, killed_at=killed_at) <= TYPE_LIMIT
    for key, limit in LIMITS.items():
        mine = [run for run in found if run.task in tasks[key]]
        most = most_at_once(mine, killed_at=killed_at)
        assert most <= limit, f"{most} of {key} ran at once"
    for key in LIMITS:
        assert platform.request("GET", f"/concurrency-keys/{key}").status_code == 404, "a leak"
    assert platform.request("GET", path).json()["limits"]["used"] == 0


def test_no_window_of_the_ledger_sees_more_starts_than_the_rate_while_the_engine_is_killed(
    platform: Platform,
) -> None:
    limits = {"concurrency": None, "rate": f"{RATE}/{RATE_SECONDS}s"}
    assert platform.request("PATCH", "/task-types/fault.work", limits).status_code == 200
    tasks = {str(platform.submit("fault.work")) for _ in range(3 * RATE)}
    wait_for(lambda: len([run for run in runs(platform) if run.task in tasks]) >= RATE, seconds=30)
    for name in [name for name in platform.parts if name.startswith("engine")]:
        platform.kill_part(name)
        platform.start_part(name)
    platform.drain()
    rows = platform.query(
        "SELECT extract(epoch FROM at)::float8 FROM taskmill_event"
        " WHERE type = 'task.dispatched' AND task_id::text = ANY(%s)",
        sorted(tasks),
    )
    handed_out = sorted(at for (at,) in rows)
    for first in handed_out:
        window = [at for at in handed_out if first <= at < first + RATE_SECONDS]
        assert len(window) <= RATE
    assert {run.task for run in runs(platform)} >= tasks
    assert platform.request("PATCH", "/task-types/fault.work", {"rate": None}).status_code == 200
