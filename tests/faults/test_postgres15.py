"""The oldest supported PostgreSQL, Debian's 15, under the whole platform."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environment import RUN_DIRECTORY
from tests.faults.platform import Client, Platform

PROGRAMS = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def platform() -> Iterator[Platform]:
    if not (PROGRAMS / "postgres").exists():
        reason = "PostgreSQL 15 is not installed (apt-get install postgresql-15)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    directory = RUN_DIRECTORY / "postgres15"
    directory.mkdir()
    directory.chmod(0o755)
    found = Platform(directory, broker=None, programs=PROGRAMS)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def test_tasks_run_and_survive_a_worker_on_postgresql_15(platform: Platform) -> None:
    [(version,)] = platform.query("SHOW server_version")
    assert version.startswith("15.")
    with Client(platform):
        lost = platform.submit(seconds=4.0)
        platform.wait_for_state(lost, "running")
        keyed = [platform.submit(concurrency_key="k", max_concurrency=1) for _ in range(3)]
        cancelled = platform.submit(delay=600)
        assert platform.request("DELETE", f"/tasks/{cancelled}").status_code == 200
        name = platform.query("SELECT worker FROM taskmill_task WHERE id = %s", lost)[0][0]
        pid = int(name.rpartition(":")[2])
        part = next(key for key, one in platform.parts.items() if one.pid == pid)
        platform.kill_part(part)
        platform.start_part(part)
        platform.wait_for_state(lost, "success", seconds=40)
        for task in keyed:
            platform.wait_for_state(task, "success", seconds=40)
    platform.drain()
    platform.check()
