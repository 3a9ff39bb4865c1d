"""The supervisor, with small programs of its own: no platform, no database."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tasks_app.clock import monotonic
from tasks_app.management.console import Console
from tasks_app.management.leftovers import end_processes, mark, marked_processes
from tasks_app.management.supervisor import (
    LAST_PAUSE_SECONDS,
    Program,
    Supervisor,
    pause_seconds,
)
from tests.processes import wait_for

ORPHANS = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("orphan", flush=True)
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(lines: io.StringIO, tmp_path: Path) -> Supervisor:
    return Supervisor(Console(lines), os.environ, directory=tmp_path, var=tmp_path)


def program(code: str, *, name: str = "one", stop_seconds: float = 5.0) -> Program:
    return Program(name=name, command=(sys.executable, "-c", code), stop_seconds=stop_seconds)


def test_lines_carry_the_name_of_their_program(supervisor: Supervisor, lines: io.StringIO) -> None:
    supervisor.start(program("import time; print('hello', flush=True); time.sleep(600)"))
    assert supervisor.run_until(lambda: "hello" in lines.getvalue(), seconds=10)
    assert "one      | hello\n" in lines.getvalue()
    assert supervisor.stop_programs(["one"])


def test_a_program_that_ends_is_started_again_with_growing_pauses(
    supervisor: Supervisor, lines: io.StringIO
) -> None:
    supervisor.start(program("raise SystemExit(3)"))
    text = "ended with exit code 3; starting it again in"
    assert supervisor.run_until(lambda: lines.getvalue().count(text) == 2, seconds=20)
    assert "in 0.5 s\n" in lines.getvalue()
    assert "in 1 s\n" in lines.getvalue()
    assert supervisor.hopeless() == []
    assert [pause_seconds(n) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert pause_seconds(10_000) == LAST_PAUSE_SECONDS


def test_a_program_that_does_not_stop_is_killed(supervisor: Supervisor, lines: io.StringIO) -> None:
    supervisor.start(program(DEAF, stop_seconds=0.3))
    assert supervisor.run_until(lambda: "deaf" in lines.getvalue(), seconds=10)
    process = supervisor.children["one"].process
    assert process is not None
    assert not supervisor.stop_programs(["one"])
    assert not psutil.pid_exists(process.pid)


def test_what_a_program_left_in_other_sessions_ends_with_it(
    supervisor: Supervisor, lines: io.StringIO, tmp_path: Path
) -> None:
    supervisor.start(program(ORPHANS))
    assert supervisor.run_until(lambda: "orphan" in lines.getvalue(), seconds=10)
    assert len(marked_processes(tmp_path, "one")) == 2
    assert supervisor.stop_programs(["one"])
    assert marked_processes(tmp_path) == []


def test_a_program_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
from tasks_app.management.console import Console
from tasks_app.management.supervisor import Program, Supervisor
here = Path({str(tmp_path)!r})
supervisor = Supervisor(Console(sys.stdout), os.environ, directory=here, var=here)
command = (sys.executable, "-c", "import time; time.sleep(600)")
supervisor.start(Program(name="one", command=command, stop_seconds=1.0))
print(supervisor.children["one"].process.pid, flush=True)
supervisor.run_until(lambda: False)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        wait_for(lambda: "time.sleep" in " ".join(child.cmdline()), seconds=5)
        starter.kill()
    child.wait(5)


def test_processes_without_the_mark_are_strangers(tmp_path: Path) -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    here, there = mark(tmp_path, "one"), mark(tmp_path / "other", "one")
    ours = subprocess.Popen(sleeping, env={**os.environ, **here})
    stranger = subprocess.Popen(sleeping, env={**os.environ, **there})
    try:
        assert end_processes(marked_processes(tmp_path), grace_seconds=5) == 1
        ours.wait(5)
        assert not psutil.pid_exists(ours.pid)
        assert stranger.poll() is None
    finally:
        for process in (ours, stranger):
            process.kill()
            process.wait()


def test_a_bar_is_redrawn_below_the_lines_on_a_terminal_and_plain_when_piped() -> None:
    terminal = Terminal()
    shown = Console(terminal)
    shown.bar(50, "half")
    shown.line("web", "hello")
    assert "\x1b[K[###############...............]  50 % half" in terminal.getvalue()
    assert terminal.getvalue().endswith("hello\n[###############...............]  50 % half")
    piped = io.StringIO()
    plain = Console(piped)
    for _ in range(3):
        plain.bar(50, "half")
    assert piped.getvalue() == "[###############...............]  50 % half\n"


def test_a_stop_before_its_time_takes_no_time(supervisor: Supervisor) -> None:
    before = monotonic()
    assert supervisor.stop_programs(["one"])
    assert monotonic() - before < 1
