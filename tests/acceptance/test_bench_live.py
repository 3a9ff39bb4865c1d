"""`make bench-live` measures every transport and prints what it found. No speed is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_a_smoke_run_prints_plausible_figures_of_each_transport(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.live", "--quick", "--results", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=380, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [row.split(" | ")[0].strip("| ") for row in rows if "---" not in row]
    assert names[1:4] == ["websocket", "sse", "channels"]
    assert names[4].startswith("drained")
    assert names[5:] == ["nobody", "one task each", "everything"]
    assert "load average" in done.stdout
    [path] = tmp_path.glob("live-*.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    drain = found.pop()
    assert list(drain["rates"]) == ["", "sse", "all"]
    assert min(drain["rates"].values()) > 1
    assert all(0 <= share < 1 for share in drain["shares"].values())
    assert [one["transport"] for one in found] == ["websocket", "sse", "channels"]
    for one in found:
        assert 0.1 < one["p50_ms"] <= one["p99_ms"]
        assert one["p50_ms"] <= one["max_ms"] < 60_000
        assert one["deliveries_per_second"] > 1
        assert one["connections"] == 5
