"""The command as people and scripts start it: a process of its own, piped or on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.installations import Installation
from tests.processes import ROOT

COMMAND = [sys.executable, "-m", "taskmill_client"]


def _listen_to_ctrl_c() -> None:
    """Undo what a shell does to what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


@dataclass
class Shell:
    """Starts commands with one home directory and one platform.

    `variables` win over what the platform says; an empty one is left out.
    """

    home: Path
    platform: Installation | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        found = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT / "client"),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
        }
        if self.platform is not None:
            found["TASKMILL_URL"] = self.platform.url
            found["TASKMILL_TOKEN"] = self.platform.credentials()["token"]
        found |= self.variables
        return {name: value for name, value in found.items() if value}

    def run(self, *arguments: str, stdin: str | bytes = "") -> Done:
        """Run a command whose input and output are pipes."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=given,
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            timeout=120,
            check=False,
        )
        found = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in found.err, found.err
        return found

    def ok(self, *arguments: str, stdin: str = "") -> Done:
        """Run a command that ends with 0."""
        done = self.run(*arguments, stdin=stdin)
        assert done.code == 0, (arguments, done)
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on; its output are pipes."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            preexec_fn=_listen_to_ctrl_c,  # noqa: PLW1509 - the test has no thread that holds a lock
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on_terminal(self, *arguments: str, keys: dict[str, str] | None = None) -> Terminal:
        """Run a command on a terminal of 120 by 40 characters to its end.

        Args:
            keys: what to type when a text is on the screen.
        """
        terminal = Terminal([*COMMAND, *arguments], self.environment(), self.home)
        terminal.read_to_the_end(dict(keys or {}))
        assert "Traceback" not in terminal.text, terminal.text
        return terminal


class Terminal:
    """A command on a pseudo-terminal, and what it wrote there."""

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path) -> None:
        self._file, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

        def own_terminal() -> None:
            _listen_to_ctrl_c()
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=other,
            stdout=other,
            stderr=other,
            preexec_fn=own_terminal,  # noqa: PLW1509 - the test has no thread that holds a lock
        )
        os.close(other)
        self.text = ""
        self.code = -1

    def read_to_the_end(self, keys: dict[str, str], *, seconds: float = 90.0) -> None:
        end = time.monotonic() + seconds
        while self._read(end):
            for shown in [one for one in keys if one in self.text]:
                os.write(self._file, keys.pop(shown).encode())
        self.code = self.process.wait(30)
        os.close(self._file)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._file], [], [], 1.0)
        if ready and time.monotonic() < end:
            try:
                chunk = os.read(self._file, 65_536)
            except OSError:
                return False
            self.text += chunk.decode("utf-8", "replace")
            return bool(chunk)
        if time.monotonic() > end:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the command did not end:\n{self.text[-4000:]}")
        return True
