"""What a run prints: the machine, the settings, the table with ratios; and its JSON lines."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.processes import ROOT
from bench.rounds import Figures, Sizes
from bench.stage import Stage
from bench.systems import CONCURRENCY

RESULTS = ROOT / "bench" / "results"
PACKAGES = ("celery", "kombu", "Django", "django-celery-results", "psycopg", "uvicorn")
PERCENTILES = (50, 95, 99)


def machine(stage: Stage) -> dict[str, str]:
    """Give what the figures depend on, as lines of a name and a value."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    postgres = stage.postgres_settings()
    packages = " ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": packages,
        "PostgreSQL": ", ".join(f"{name}={value}" for name, value in postgres.items()),
        "RabbitMQ": f"{stage.broker.control('version').strip()}, one node, quorum queues",
        "Valkey": "append-only file on",
        "workers": f"prefork, concurrency {CONCURRENCY}, one worker, one web process, one engine",
        "commit": _commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def rows(found: Sequence[Figures]) -> list[tuple[str, bool, list[float | None]]]:
    """Give the table: the name of a measure, whether more is better, and a value per system."""
    table: list[tuple[str, bool, list[float | None]]] = [
        (
            f"submit, {clients} client{'s' if clients > 1 else ''}, tasks/s",
            True,
            [one.submit_rate(clients) for one in found],
        )
        for clients in (1, 8)
    ]
    table.append(("submit in bulk, tasks/s", True, [one.bulk_rate() for one in found]))
    table.append(("drain, tasks/s", True, [one.drain_rate() for one in found]))
    table += [
        (f"submit to result, p{percent}, ms", False, [one.percentile(percent) for one in found])
        for percent in PERCENTILES
    ]
    return table


def ratio(ours: float | None, peer: float | None, *, is_more_better: bool) -> str:
    """Say how many times better ours is; below 1 it is worse."""
    if not ours or not peer:
        return "-"
    return f"{ours / peer if is_more_better else peer / ours:.1f}x"


def table(found: Sequence[Figures]) -> str:
    """Give the table as Markdown; the ratios compare the first column with the peer's two."""
    names = [one.system for one in found]
    peers = [index for index, name in enumerate(names) if name.startswith("Celery")]
    head = ["", *names, *(f"ours / {names[index]}" for index in peers)]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for name, is_more_better, values in rows(found):
        ratios = [ratio(values[0], values[i], is_more_better=is_more_better) for i in peers]
        lines.append([name, *(number(value) for value in values), *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Give a figure with three significant digits or more."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def costs(found: Sequence[Figures], sizes: Sizes) -> str:
    """Give processor time per drained task and peak memory, by process, as Markdown."""
    lines = [["", "CPU us per drained task", "peak memory, MB of each process"], ["---"] * 3]
    for one in found:
        cpu = one.cpu_per_task(sizes.drain_tasks)
        spent = ", ".join(f"{role} {value:,.0f}" for role, value in cpu.items())
        memory = ", ".join(
            f"{role} {' + '.join(f'{value:.0f}' for value in values)}"
            for role, values in one.memory.items()
        )
        lines.append([one.system, f"{spent}; together {sum(cpu.values()):,.0f}", memory])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_lines(
    found: Sequence[Figures], sizes: Sizes, about: dict[str, str], *, directory: Path
) -> Path:
    """Append one JSON line per system to the results of today; give the file."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{about['at'][:10]}.jsonl"
    with path.open("a", encoding="utf8") as output:
        for one in found:
            line = {"machine": about, "sizes": asdict(sizes), **asdict(one)}
            output.write(json.dumps(line) + "\n")
    return path
