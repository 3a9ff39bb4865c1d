"""`make bench-peers` installs peers, measures them beside Taskmill and prints the promises.

A small form: one Celery, BullMQ and ours, one round. No speed is asserted here. Of 2,000 tasks
each: processor time is counted in ticks of 10 ms, and BullMQ drains 400 between two of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.test_bench import (
    assert_plausible_latencies,
    number,
    rows_of,
    run_bench,
)
from tests.node_clients import node_package

SYSTEMS = ("Taskmill on RabbitMQ", "BullMQ", "Celery, results in Redis")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(900)
def test_a_tiny_run_measures_peers_beside_ours_and_prints_ratios(tmp_path: Path) -> None:
    node_package(ROOT / "bench" / "peer_bullmq")  # skips where npm is missing, as others do
    chosen = ["--systems", "taskmill,bullmq,celery-redis", "--measures", "drain,latency"]
    text = run_bench(
        "bench.peers", "--quick", "--tasks", "2000", *chosen, "--results", str(tmp_path)
    )
    table = rows_of(text)
    for rate in table["drain, tasks/s"]:
        assert 1 < number(rate) < 1e5
    assert_plausible_latencies(table, SYSTEMS)
    assert all("together" in table[system][0] for system in SYSTEMS)
    promised = {row: cells for row, cells in table.items() if " / " in row}
    assert [row.partition(" ")[0] for row in promised] == ["drain,", "idle,", "idle,"]
    for ours, peer, ratio, *_, reached in promised.values():
        assert float(ratio.removesuffix("x")) == pytest.approx(number(ours) / number(peer), rel=0.1)
        assert reached in {"no", "floor", "goal"}
    for what in ("bullmq 6.", "procrastinate 3.", "load average at the end: ", "fsync=on"):
        assert what in text
    (path,) = tmp_path.glob("peers-*.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    assert [one["system"] for one in found] == list(SYSTEMS)
    assert [len(one["values"]["drain"]) for one in found] == [1, 1, 1]
