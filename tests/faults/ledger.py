"""What the ledger of handlers proves: who ran when, and how many at once.

Times are of the machine's monotonic clock. A killed worker's handler writes no end: its interval
lasts until the kill, at least.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """An attempt as its handler wrote it; without an end it goes on, or died with its worker."""

    task: str
    start: float
    end: float | None


def read_runs(ledger: Path) -> list[Run]:
    """Read a ledger, in the order of starts; a line that is being written is left out."""
    starts: dict[tuple[str, str], float] = {}
    ends: dict[tuple[str, str], float] = {}
    for line in ledger.read_text().rpartition("\n")[0].splitlines():
        word, task, epoch, _, at = line.split()
        (starts if word == "start" else ends)[task, epoch] = float(at)
    found = [Run(key[0], at, ends.get(key)) for key, at in starts.items()]
    return sorted(found, key=lambda run: run.start)


def most_at_once(found: Sequence[Run], *, killed_at: float) -> int:
    """Give how many intervals overlap at most; ends come before starts of the same instant.

    An interval without an end lasted until its worker was killed, at least.
    """
    steps = [(run.start, 1) for run in found]
    steps += [(run.end or max(run.start, killed_at), -1) for run in found]
    now = most = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def beside(run: Run, found: Iterable[Run]) -> int:
    """Give how many run when one starts, itself included."""
    return sum(one.start <= run.start < (one.end or float("inf")) for one in found)


def most_in_a_window(times: Sequence[float], *, seconds: float) -> int:
    """Give the most instants in any window of the length, wherever it begins."""
    return max((sum(first <= at < first + seconds for at in times) for first in times), default=0)
