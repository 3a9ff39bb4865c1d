"""`make bench-fair` measures waits alone and beside a noisy tenant. No speed is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_smoke_run_prints_a_ratio_for_each_load_of_the_quiet_tenant(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.fair", "--quick", "--results", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line][2:]
    assert [row[0] for row in rows] == ["batches of 4", "single tasks"]
    assert all(float(row[-1]) > 0 for row in rows)
    [path] = tmp_path.glob("fair-*.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(one["beside"]) for one in found] == [8, 3]
