"""Keeps processes running: starts them, passes on their lines, restarts them with growing pauses,
and stops them in order.

Used by `manage.py up`. All decisions are made on the main thread, which sleeps on one queue of
events; a thread per process reads its lines, another waits for its end. Processes run in sessions
of their own, so a Ctrl-C reaches the supervisor alone. It knows nothing of what the processes do.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tasks_app.clock import monotonic
from tasks_app.management.accounts import death_signal_prefix
from tasks_app.management.console import Console
from tasks_app.management.leftovers import end_processes, mark, marked_processes
from tasks_app.management.servers import ChildServer, ServerFault

FIRST_PAUSE_SECONDS: Final = 0.5
LAST_PAUSE_SECONDS: Final = 30.0
SETTLED_SECONDS: Final = 20.0
HOPELESS_FAILURES: Final = 4
KEPT_LINES: Final = 40
_TURN_SECONDS: Final = 0.5


class StopAsked(Exception):
    """Somebody asked the supervisor to stop while it was still starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process to keep running.

    Attributes:
        name: shown before its lines.
        command: program and arguments.
        stop_seconds: how long it may take to stop after SIGTERM before it is killed.
        files: file descriptors that it inherits.
    """

    name: str
    command: tuple[str, ...]
    stop_seconds: float
    files: tuple[int, ...] = ()


def pause_seconds(failures: int) -> float:
    """Give the pause before the restart that follows `failures` ends in a row (1 for the first)."""
    doubled: float = FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 16)
    return min(doubled, LAST_PAUSE_SECONDS)


@dataclass(slots=True)
class Child:
    """A program with its running process, or with the time of its restart."""

    program: Program
    process: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    restart_at: float | None = None
    failures: int = 0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))


@dataclass(slots=True)
class Watched:
    """An embedded server with the time of its next restart."""

    server: ChildServer
    restart_at: float = 0.0
    failures: int = 0


class Supervisor:
    """Runs programs until asked to stop.

    Args:
        console: where lines go.
        environment: of the programs, whole.
        directory: working directory of the programs.
        var: directory of the installation; marks the programs and all that they start.
    """

    def __init__(
        self, console: Console, environment: Mapping[str, str], *, directory: Path, var: Path
    ) -> None:
        self.console = console
        self.children: dict[str, Child] = {}
        self._servers: list[Watched] = []
        self._environment = dict(environment)
        self._directory = directory
        self._var = var
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stop_requests = 0
        self._is_stopping = False

    def listen_to_signals(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP as requests to stop; the second one hurries."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take_signal)

    @property
    def is_stop_asked(self) -> bool:
        """Whether a signal asked to stop."""
        return self._stop_requests > 0

    def is_hurried(self) -> bool:
        """Say whether a second signal asked to stop at once."""
        return self._stop_requests > 1

    def check_stop(self) -> None:
        """Leave the start if a signal asked to.

        Raises:
            StopAsked: it did.
        """
        if self.is_stop_asked:
            raise StopAsked

    def post(self, event: Callable[[], None]) -> None:
        """Have `event` called on the main thread; safe from any thread."""
        self._events.put(event)

    def start_server(self, server: ChildServer) -> None:
        """Start an embedded server and restart it when it ends.

        Raises:
            ServerFault: it does not come up now.
        """
        self.check_stop()
        server.start()
        self._servers.append(Watched(server))

    def hopeless(self) -> list[str]:
        """Give the names of the programs that end each time soon after their start."""
        return [
            name for name, child in self.children.items() if child.failures >= HOPELESS_FAILURES
        ]

    def start(self, program: Program) -> None:
        """Start a program and keep it running."""
        child = Child(program)
        self.children[program.name] = child
        self._launch(child)

    def run_until(self, is_done: Callable[[], bool], *, seconds: float | None = None) -> bool:
        """Handle events until `is_done`, a request to stop, or the end of `seconds`.

        Returns:
            Whether `is_done` said so.
        """
        end = None if seconds is None else monotonic() + seconds
        while not self.is_stop_asked:
            if is_done():
                return True
            if end is not None and monotonic() >= end:
                return False
            self._turn(_TURN_SECONDS if end is None else 0.1)
        return False

    def stop_programs(self, names: Sequence[str]) -> bool:
        """Stop programs one after the other in the order given.

        Returns:
            Whether each of them stopped by itself within its time.
        """
        self._is_stopping = True
        found = [self.children[name] for name in names if name in self.children]
        outcomes = [self._stop_child(child) for child in found]
        return all(outcomes)

    def stop_servers(self) -> None:
        """Stop the embedded servers, the last started first."""
        self._is_stopping = True
        for watched in reversed(self._servers):
            watched.server.stop(self.is_hurried)
        self._servers.clear()

    def _take_signal(self, *_: Any) -> None:
        self._stop_requests += 1
        self.post(lambda: None)

    def _launch(self, child: Child) -> None:
        child.restart_at = None
        child.started_at = monotonic()
        child.process = subprocess.Popen(
            [*death_signal_prefix("KILL"), *child.program.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self._environment, **mark(self._var, child.program.name)},
            cwd=self._directory,
            pass_fds=child.program.files,
            start_new_session=True,
            text=True,
            errors="replace",
            bufsize=1,
        )
        for target in (self._read_lines, self._wait_for_end):
            threading.Thread(target=target, args=(child, child.process), daemon=True).start()

    def _read_lines(self, child: Child, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                text = line.rstrip()
                child.lines.append(text)
                self.console.line(child.program.name, text)

    def _wait_for_end(self, child: Child, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        self.post(partial(self._take_end, child, code))

    def _take_end(self, child: Child, code: int) -> None:
        end_processes(marked_processes(self._var, child.program.name), grace_seconds=0)
        child.process = None
        if self._is_stopping or self.is_stop_asked:
            return
        has_settled = monotonic() - child.started_at >= SETTLED_SECONDS
        child.failures = 1 if has_settled else child.failures + 1
        pause = pause_seconds(child.failures)
        child.restart_at = monotonic() + pause
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        self.console.say(f"{child.program.name} ended {how}; starting it again in {pause:g} s")

    def _turn(self, seconds: float) -> None:
        """Handle one event, or nothing for `seconds`; then restart what is due."""
        now = monotonic()
        due = [c.restart_at - now for c in self.children.values() if c.restart_at is not None]
        try:
            event = self._events.get(timeout=max(min([seconds, *due]), 0.0))
        except queue.Empty:
            pass
        else:
            event()
        if self._is_stopping or self.is_stop_asked:
            return
        self._restart_due()

    def _restart_due(self) -> None:
        now = monotonic()
        for child in self.children.values():
            if child.restart_at is not None and child.restart_at <= now:
                self._launch(child)
        for watched in self._servers:
            if not watched.server.is_running() and watched.restart_at <= now:
                self._restart_server(watched)

    def _restart_server(self, watched: Watched) -> None:
        self.console.say(f"{watched.server.name} ended; starting it again")
        try:
            watched.server.start()
            watched.failures = 0
        except ServerFault as fault:
            watched.failures += 1
            watched.restart_at = monotonic() + pause_seconds(watched.failures)
            self.console.say(str(fault))

    def _stop_child(self, child: Child) -> bool:
        if child.process is None:
            return True
        process = child.process
        process.terminate()
        end = monotonic() + child.program.stop_seconds
        while child.process is process and monotonic() < end and not self.is_hurried():
            self._turn(min(max(end - monotonic(), 0.0), 0.2))
        if child.process is None:
            return True
        process.kill()
        while child.process is process:
            self._turn(0.2)
        return False
