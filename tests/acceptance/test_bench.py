"""`make bench` measures Taskmill and prints what it found. No speed is asserted here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.rabbitmq import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("Taskmill on RabbitMQ", "Taskmill on Valkey")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def number(cell: str) -> float:
    return float(cell.split(" ", maxsplit=1)[0].replace(",", ""))


def run_bench(module: str, *arguments: str) -> str:
    """Run a benchmark and give what it printed."""
    if not (SCRIPTS / "rabbitmq-server").exists() or shutil.which("epmd") is None:
        reason = "RabbitMQ is not installed (apt-get install rabbitmq-server)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def rows_of(text: str) -> dict[str, list[str]]:
    """Give the rows of all tables by their first cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in map(cells, lines)}


def assert_plausible_latencies(table: dict[str, list[str]], systems: Sequence[str]) -> None:
    for system in range(len(systems)):
        p50, p95, p99 = (
            number(table[f"submit to result, p{percent}, ms"][system]) for percent in (50, 95, 99)
        )
        assert 0.2 < p50 <= p95 <= p99


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a smoke run printed, and the directory of its JSON lines."""
    results = tmp_path_factory.mktemp("bench")
    return run_bench("bench", "--quick", "--results", str(results)), results


@pytest.mark.timeout(900)
def test_a_smoke_run_prints_plausible_figures_of_both_brokers(printed: tuple[str, Path]) -> None:
    text, _ = printed
    table = rows_of(text)
    assert table[""] == ["CPU us per drained task", "peak memory, MB of each process"]
    for name in ("submit, 1 client", "submit, 8 clients", "submit in bulk", "drain"):
        for rate in table[f"{name}, tasks/s"]:
            assert 1 < number(rate) < 1e6
    assert_plausible_latencies(table, SYSTEMS)
    for system in SYSTEMS:
        cpu, memory = table[system]
        assert "worker children" in cpu
        assert "postgres" in cpu
        peaks, together = re.fullmatch(r".*worker ([\d +]+) \(together (\d+)\).*", memory).groups()
        sizes = [int(size) for size in peaks.split(" + ")]
        assert len(sizes) == 3
        assert max(sizes) / 3 < int(together) < sum(sizes)


@pytest.mark.timeout(900)
def test_a_run_names_the_machine_and_keeps_its_figures(printed: tuple[str, Path]) -> None:
    text, results = printed
    for what in ("processor: ", "fsync=on", "synchronous_commit=on", "quorum queues", "celery "):
        assert what in text
    (path,) = results.glob("*.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    assert [one["system"] for one in found] == list(SYSTEMS)
    for one in found:
        assert set(one["values"]) == {"submit1", "submit8", "bulk", "drain", "p50", "p95", "p99"}
        assert one["cpu"]["drain"]
        assert one["memory"]
