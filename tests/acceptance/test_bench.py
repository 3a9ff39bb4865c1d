"""`make bench` measures both systems and prints what it found. No speed is asserted here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rabbitmq import SCRIPTS

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("Taskmill on RabbitMQ", "Taskmill on Valkey", "Celery")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a smoke run printed, and the directory of its JSON lines."""
    if not (SCRIPTS / "rabbitmq-server").exists() or shutil.which("epmd") is None:
        reason = "RabbitMQ is not installed (apt-get install rabbitmq-server)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    results = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "bench", "--quick", "--results", str(results)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout, results


@pytest.mark.timeout(900)
def test_a_smoke_run_prints_plausible_figures_of_every_system(printed: tuple[str, Path]) -> None:
    text, _ = printed
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    table = {row[0]: row[1:] for row in map(cells, lines)}
    assert table[""][:2] == ["CPU us per drained task", "peak memory, MB of each process"]
    assert [cells(line)[1:4] for line in lines if "ours /" in line] == [list(SYSTEMS)]
    for name in ("submit, 1 client", "submit, 8 clients", "submit in bulk"):
        ours, _, peer, ratio = table[f"{name}, tasks/s"]
        assert 1 < number(ours) < 1e6
        assert 1 < number(peer) < 1e6
        assert ratio.endswith("x")
    for rate in table["drain, tasks/s"][:3]:
        assert 1 < number(rate) < 1e5
    for system in range(3):
        p50, p95, p99 = (
            number(table[f"submit to result, p{percent}, ms"][system]) for percent in (50, 95, 99)
        )
        assert 0.2 < p50 <= p95 <= p99
    for system in SYSTEMS:
        cpu, memory = table[system]
        assert "worker children" in cpu
        assert "postgres" in cpu
        assert "worker" in memory


@pytest.mark.timeout(900)
def test_a_run_names_the_machine_and_keeps_its_figures(printed: tuple[str, Path]) -> None:
    text, results = printed
    for what in ("processor: ", "fsync=on", "synchronous_commit=on", "quorum queues", "celery "):
        assert what in text
    (path,) = results.glob("*.jsonl")
    found = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    assert [one["system"] for one in found] == list(SYSTEMS)
    assert all(one["latencies"] and one["drains"] and one["memory"] for one in found)
