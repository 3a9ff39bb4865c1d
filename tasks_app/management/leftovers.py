"""Finds and ends processes of this installation that outlived what started them.

Every supervised process and all its descendants carry a mark in their environment: the
installation's directory and the program's name. A process without the mark is a stranger and is
never touched, whatever its id, so no stale pid file can hit the wrong one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

_VAR: Final = "TASKMILL_SUPERVISED_VAR"
_PROGRAM: Final = "TASKMILL_SUPERVISED_PROGRAM"


def mark(var: Path, program: str) -> dict[str, str]:
    """Give the environment variables that mark a program of the installation at `var`."""
    return {_VAR: str(var), _PROGRAM: program}


def marked_processes(var: Path, program: str | None = None) -> list[psutil.Process]:
    """Give the living processes of a program, or of all; ourselves and our parents excepted."""
    us = psutil.Process()
    ourselves = {us.pid, *(parent.pid for parent in us.parents())}
    wanted = {_VAR: str(var)} if program is None else mark(var, program)
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in ourselves and _carries(process, wanted)
    ]


def _carries(process: psutil.Process, wanted: dict[str, str]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return wanted.items() <= process.environ().items()
    except (psutil.Error, OSError):
        return False


def end_processes(processes: Iterable[psutil.Process], *, grace_seconds: float) -> int:
    """Ask processes to stop, kill those that live after the grace, and say how many there were.

    Args:
        processes: they may have ended meanwhile; a reused id is noticed and left alone.
        grace_seconds: 0 kills at once.
    """
    living = found = list(processes)
    if grace_seconds > 0:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, living = psutil.wait_procs(found, timeout=grace_seconds)
    for process in living:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(living, timeout=5.0)
    return len(found)
