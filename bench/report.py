"""What a run prints: the machine, the settings, the tables; and its JSON lines."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.processes import ROOT
from bench.rounds import Figures, Sizes
from bench.stage import Stage
from bench.systems import CONCURRENCY

RESULTS = ROOT / "bench" / "results"
PACKAGES = ("celery", "kombu", "Django", "psycopg", "uvicorn")
TITLES = {
    "submit1": "submit, 1 client, tasks/s",
    "submit8": "submit, 8 clients, tasks/s",
    "bulk": "submit in bulk, tasks/s",
    "drain": "drain, tasks/s",
    "single": "drain, a message per task, tasks/s",
    "rules": "drain under three rules, tasks/s",
    "subscribers": "drain beside subscribers, tasks/s",
    "large": "drain of large payloads, tasks/s",
    "p50": "submit to result, p50, ms",
    "p95": "submit to result, p95, ms",
    "p99": "submit to result, p99, ms",
}
"""What the values of `Figures` are called in a table."""


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


def load_average() -> str:
    """Give how busy the machine is, over 1, 5 and 15 minutes."""
    return ", ".join(f"{one:.1f}" for one in os.getloadavg())


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Give a table; its first row is the head, columns after the first are aligned right."""
    head, *rest = rows
    ruled = [head, ["---"] + ["---:"] * (len(head) - 1), *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def table(found: Sequence[Figures]) -> str:
    """Give the medians with their spread, a column per system."""
    rows = [["", *(one.system for one in found)]]
    for name, title in TITLES.items():
        if any(name in one.values for one in found):
            rows.append([title, *(spread(one.values.get(name, [])) for one in found)])
    rows.append(["keeps", *(one.keeps for one in found)])
    return markdown(rows)


def spread(values: Sequence[float]) -> str:
    """Give the median, and the least and the most beside it where there are several."""
    if not values:
        return "-"
    middle = Figures("", "", "", values={"": list(values)}).median("")
    if len(values) == 1:
        return number(middle)
    return f"{number(middle)} ({number(min(values))} to {number(max(values))})"


def number(value: float | None) -> str:
    """Give a figure with three significant digits or more."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def costs(found: Sequence[Figures]) -> str:
    """Give processor time per drained task and peak memory, by process."""
    rows = [["", "CPU us per drained task", "peak memory, MB of each process"]]
    for one in found:
        cpu = one.cpu_per_task("drain")
        spent = ", ".join(f"{role} {value:,.0f}" for role, value in cpu.items())
        memory = ", ".join(f"{role} {sizes}" for role, sizes in one.memory.items())
        together = f"{spent}; together {sum(cpu.values()):,.0f}" if cpu else "-"
        rows.append([one.system, together, memory or "-"])
    return "\n".join(
        f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    )


def write_lines(
    found: Sequence[Figures], sizes: Sizes, about: Mapping[str, str], *, path: Path
) -> Path:
    """Append one JSON line per system to a file; give the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf8") as output:
        for one in found:
            line = {"machine": dict(about), "sizes": asdict(sizes), **asdict(one)}
            output.write(json.dumps(line) + "\n")
    return path
