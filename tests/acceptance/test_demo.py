"""`manage.py demo`: the newcomer's path, usable where nothing is watched."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.acceptance.installations import NOT_INHERITED
from tests.processes import ROOT


def _demo(**variables: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    before = set(os.listdir(tempfile.gettempdir()))
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    done = subprocess.run(
        [sys.executable, "manage.py", "demo"],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    after = {name for name in os.listdir(tempfile.gettempdir()) if name not in before}
    return done, {name for name in after if name.startswith("taskmill-demo-")}


def test_the_demo_shows_a_task_to_its_end_and_leaves_nothing() -> None:
    done, left = _demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Step 10 of 10" in done.stdout
    assert "succeeded: {'steps': 10, 'message': '10 steps done'}" in done.stdout
    assert left == set()


def test_a_demo_that_cannot_work_says_why_and_leaves_with_1(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('no web today')\n")
    done, left = _demo(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "web said: no web today" in done.stdout
    assert "web cannot start" in done.stderr
    assert left == set()
