"""Type checkers know what each side gives, and refuse arguments that there are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT

PROGRAM = """
from collections.abc import AsyncGenerator, Generator
from typing import assert_type

from taskmill_client import AsyncClient, AsyncTask, Client, Event, Task


def blocking(client: Client) -> None:
    task = client.tasks.submit("a", {"b": 1}, priority=3)
    assert_type(task, Task)
    assert_type(task.wait(timeout=3), Task)
    assert_type(client.tasks.list(status="failed"), Generator[Task, None, None])
    assert_type(client.tasks.events(task.id), Generator[Event, None, None])
    assert_type(client.tasks.update(task.id, priority=3, run_at=None), Task)
    assert_type(task.rerun(payload=None), Task)
    assert_type(client.tasks.list(tag=["a", "b"]), Generator[Task, None, None])
    client.tasks.update(task.id, priority=None)  # type: ignore[arg-type]
    client.tasks.update(task.id, delay=3)  # type: ignore[call-arg]
    client.tasks.submit()  # type: ignore[call-arg]
    client.tasks.cancel(task.id, forse=True)  # type: ignore[call-arg]


async def awaited(client: AsyncClient) -> None:
    task = await client.tasks.submit("a")
    assert_type(task, AsyncTask)
    assert_type(await task.refresh(), AsyncTask)
    assert_type(await task.rerun(), AsyncTask)
    assert_type(client.tasks.list(), AsyncGenerator[AsyncTask, None])
    assert_type([one async for one in task.events()], list[Event])
    task.wait().done  # type: ignore[attr-defined]
"""


def test_type_checkers_know_both_sides(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--cache-dir",
            tmp_path,
            program,
        ],
        env=os.environ | {"MYPYPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
