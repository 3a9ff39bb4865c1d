"""The guard of a worker's attempts, with a real process in the place of a pool child."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from tasks_app.clock import monotonic
from tasks_app.execution.guard import TICK_SECONDS, Guard
from tasks_app.execution.slots import Running, SlotTable


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def table(child: subprocess.Popen[bytes]) -> SlotTable:
    one = SlotTable(1)
    one.publish(0, child.pid, (uuid.uuid4(), 1, monotonic(), monotonic() + 600))
    return one


def guard_of(table: SlotTable) -> Guard:
    return Guard(
        table,
        terminate=lambda pid: os.kill(pid, signal.SIGKILL),
        pool_pids=list,
        tell=lambda: None,
    )


def running_of(table: SlotTable) -> Running:
    [running] = table.running()
    return running


def test_an_attempt_whose_lease_is_lost_is_killed(
    table: SlotTable, child: subprocess.Popen[bytes]
) -> None:
    guard = guard_of(table)
    guard.lost(running_of(table))
    time.sleep(TICK_SECONDS)
    assert guard.run_once() == 1
    assert child.wait(20) == -signal.SIGKILL


def test_one_that_was_just_written_and_not_yet_cleared_is_not(
    table: SlotTable, child: subprocess.Popen[bytes]
) -> None:
    guard = guard_of(table)
    guard.lost(running_of(table))
    assert guard.run_once() == 0
    table.clear(0, child.pid)
    time.sleep(TICK_SECONDS)
    assert guard.run_once() == 0
    assert child.poll() is None
