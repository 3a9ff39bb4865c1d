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
    loads = ("batches of 4", "single tasks")
    kinds = ("alone", "with own load", "beside", "beside, no slot kept free")
    assert [row[0] for row in rows] == [f"{load}, {kind}" for load in loads for kind in kinds]
    assert all(float(ratio) > 0 for row in rows for ratio in row[3:5])
    assert [row[6] == "-" for row in rows] == 2 * [True, True, False, False]
    [path] = tmp_path.glob("fair-*.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for kind in ("alone", "own", "beside", "full"):
        assert [len(one[kind]) for one in found] == [8, 3]
        assert [len(one[f"{kind}_handed_out"]) for one in found] == [8, 3]
