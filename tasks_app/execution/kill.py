"""Kills the process tree of a task so that nothing of it survives.

Daemons that left their session included.

Every pool child and the worker's main process are subreapers: an orphan of a task becomes a child
of its pool child (or, once that is dead, of the main process) instead of leaving the tree. The root
of the tree is stopped first, so that it cannot fork while its descendants are killed. Linux with
/proc and its `children` files (CONFIG_PROC_CHILDREN, on in every distribution's kernel).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from tasks_app.clock import monotonic

_PR_SET_CHILD_SUBREAPER: Final = 36
_ROUND_SECONDS: Final = 0.02
_PAUSE = threading.Event()


def become_subreaper() -> None:
    """Make this process the new parent of orphans below it, where the system can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    except ProcessLookupError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def children_of(pid: int) -> list[int]:
    """Give the children of a process, zombies included, without looking at every process."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in children.read_text(encoding="ascii").split()]
    return found


def descendants(pid: int) -> list[int]:
    """Give the living processes below `pid`, without it."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children_of(waiting.pop())
        found += below
        waiting += below
    return [one for one in found if is_alive(one)]


def send(pid: int, number: signal.Signals) -> bool:
    """Signal a process; False where it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def ask_descendants_to_stop(pid: int) -> int:
    """Send SIGTERM to everything below `pid`; gives how many were asked."""
    return sum(send(one, signal.SIGTERM) for one in descendants(pid))


def kill_descendants(pid: int, *, seconds: float = 5.0) -> bool:
    """Kill everything below `pid` until nothing is left.

    False where something survives `seconds` (as in state D).
    """
    end = monotonic() + seconds
    while below := descendants(pid):
        for one in below:
            send(one, signal.SIGKILL)
        reap(below)
        if monotonic() > end:
            return not descendants(pid)
        _PAUSE.wait(_ROUND_SECONDS)
    return True


def reap(pids: Iterable[int]) -> None:
    """Collect the exit status of those that are dead children of this process."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def kill_tree(
    pid: int, *, is_wanted: Callable[[], bool], kill_root: Callable[[], None], seconds: float = 5.0
) -> bool | None:
    """Kill `pid` and everything below it.

    Args:
        is_wanted: asked once the root stands still; False lets it go on.
        kill_root: ends the root (the pool's own way, so that it replaces the child).

    Returns:
        True where nothing survives, False where something does, None where it was not wanted any
        more.
    """
    if not send(pid, signal.SIGSTOP):
        return True
    if not is_wanted():
        send(pid, signal.SIGCONT)
        return None
    is_clean = kill_descendants(pid, seconds=seconds)
    kill_root()
    end = monotonic() + seconds
    while is_alive(pid) and monotonic() < end:
        _PAUSE.wait(_ROUND_SECONDS)
    return is_clean and not is_alive(pid)


class Strangers:
    """Orphans that came to the main process because their pool child died; killed and reaped."""

    ADOPTION_SECONDS: Final = 1.0

    def __init__(self) -> None:
        self._seen_at: dict[int, float] = {}

    def sweep(self, known: Iterable[int]) -> int:
        """Kill what has been a child for a second and is not `known` to the pool.

        Gives how many.
        """
        now, own = monotonic(), set(known)
        children = set(children_of(os.getpid())) - own
        self._seen_at = {pid: self._seen_at.get(pid, now) for pid in children}
        due = [pid for pid, seen in self._seen_at.items() if now - seen >= self.ADOPTION_SECONDS]
        for pid in due:
            send(pid, signal.SIGSTOP)
            kill_descendants(pid)
            send(pid, signal.SIGKILL)
        reap(due)
        return len(due)
