"""Child processes of a run, and what the kernel says of them and of their descendants."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import monotonic, sleep
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 30.0
CLIENT_SECONDS = 300.0
POLL_SECONDS = 0.02


class BenchFault(Exception):
    """A part of the run does not do what it should; the message says which."""


class Process:
    """A process in its own session, with its output in a log file."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path):
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                list(command),
                env=dict(env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._child.pid

    def check(self) -> None:
        """Raise where it has ended.

        Raises:
            BenchFault: with the end of the log.
        """
        if self._child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise BenchFault(f"{self.name} ended with {self._child.returncode}:\n{tail}")

    def stop(self) -> None:
        """Stop in order, by force after `STOP_SECONDS`."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._child.wait()


def run_client(
    command: Sequence[str], *arguments: object, env: Mapping[str, str]
) -> dict[str, Any]:
    """Run a client program to its end and give the JSON of its last line.

    Raises:
        BenchFault: it failed.
    """
    words = [*command, *(str(word) for word in arguments)]
    found: dict[str, Any] = json.loads(run_program(words, env=env).splitlines()[-1])
    return found


def run_command(arguments: Sequence[str], *, env: Mapping[str, str]) -> str:
    """Run a command of this interpreter to its end and give what it printed.

    Raises:
        BenchFault: it failed.
    """
    return run_program([sys.executable, *arguments], env=env)


def run_program(words: Sequence[str], *, env: Mapping[str, str]) -> str:
    """Run a program to its end and give what it printed.

    Raises:
        BenchFault: it failed.
    """
    try:
        done = subprocess.run(
            words,
            env=dict(env),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=CLIENT_SECONDS,
        )
    except subprocess.TimeoutExpired as fault:
        raise BenchFault(f"{' '.join(words[1:])}: no end in {CLIENT_SECONDS:.0f} s") from fault
    if done.returncode != 0:
        raise BenchFault(f"{' '.join(words[1:])}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return done.stdout


def free_port() -> int:
    """Give a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    what: str, is_done: Callable[[], bool], *, seconds: float = 60.0, every: float = POLL_SECONDS
) -> None:
    """Ask until the answer is true.

    Raises:
        BenchFault: it did not become true in time.
    """
    end = monotonic() + seconds
    while not is_done():
        if monotonic() > end:
            raise BenchFault(f"{what} did not happen within {seconds:.0f} s")
        sleep(every)


def accepts(port: int) -> bool:
    """Say whether somebody listens on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def descendants(pid: int) -> Iterator[int]:
    """Give a process and everything below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            parents.setdefault(int(fields[1]), []).append(int(path.name))
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(parents.get(one, ()))


def _stat(pid: int) -> list[str]:
    """Give the fields of /proc/PID/stat from the state on, or none where it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """Give the processor seconds of a process and all below it, those that have ended included."""
    ticks = 0
    for one in descendants(pid):
        fields = _stat(one)
        ticks += sum(int(word) for word in fields[11:15])
    return ticks / TICKS_PER_SECOND


def own_cpu_seconds(pid: int) -> float:
    """Give the processor seconds of a process alone."""
    return sum(int(word) for word in _stat(pid)[11:13]) / TICKS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes of a process and those below it.

    Attributes:
        peaks: the peak resident size of each, the largest first; shared pages count in each.
        together: of all of them now, shared pages counted once.
    """

    peaks: list[float]
    together: float

    def most(self, other: Memory) -> Memory:
        """Give the larger of each."""
        peaks = [max(pair) for pair in zip_longest(self.peaks, other.peaks, fillvalue=0.0)]
        return Memory(peaks, max(self.together, other.together))

    def __str__(self) -> str:
        peaks = " + ".join(f"{one:.0f}" for one in self.peaks)
        return f"{peaks} (together {self.together:.0f})" if len(self.peaks) > 1 else peaks


def memory_of(pid: int) -> Memory:
    """Give the memory of a process and of each below it."""
    found = list(descendants(pid))
    peaks = [size for one in found for size in _megabytes(one, "status", "VmHWM:")]
    together = sum(size for one in found for size in _megabytes(one, "smaps_rollup", "Pss:"))
    return Memory(sorted(peaks, reverse=True), together)


def _megabytes(pid: int, file: str, name: str) -> list[float]:
    try:
        text = Path(f"/proc/{pid}/{file}").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return [int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(name)]
