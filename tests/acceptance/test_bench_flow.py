"""`make bench-flow` measures each kind of load and prints ratios. No speed is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def printed(command: list[str]) -> list[list[str]]:
    """Run a command and give the rows of the table that it prints."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line][2:]


def test_a_smoke_run_of_explaining_prints_times_of_each_read_beside_both_backlogs() -> None:
    rows = printed([sys.executable, "-m", "bench.flow", "--waiting", "--quick"])
    assert len(rows) == 16
    assert {len(row) for row in rows} == {6}
    assert all(float(time) > 0 for _, *times in rows for time in times[:4])
    assert sum(name.startswith("list: ") for name, *_ in rows) == 10


def test_a_smoke_run_prints_a_ratio_for_each_kind_of_load(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.flow", "--quick", "--results", str(tmp_path)]
    rows = printed(command)
    assert [float(ratio) > 0 for _, _, ratio, _, _ in rows] == [True] * 4
    assert (rows[0][2], rows[0][4]) == ("1.00", "1.00")
    assert "beside 50 keys with 3 parked each" in rows[3][0]
    [path] = tmp_path.glob("flow-*.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["load"] for one in found] == [row[0] for row in rows]
    assert [len(one[kind]) for one in found for kind in ("rates", "costs")] == [1] * 8
