"""What the supervisor shows: prefixed lines of its processes, its own sentences, and one bar.

On a terminal the prefixes are coloured and the bar is redrawn below the lines. Piped, there is no
colour and the bar is a line per change. Threads may write at the same time.
"""

from __future__ import annotations

import threading
from typing import Final, TextIO

_COLOURS: Final = (36, 33, 35, 32, 34, 31)
_NAME_WIDTH: Final = 9
_BAR_WIDTH: Final = 30


class Console:
    """Writes lines to one stream.

    Args:
        stream: where to.
        is_quiet: leave out the lines of the processes.
    """

    def __init__(self, stream: TextIO, *, is_quiet: bool = False) -> None:
        self._stream = stream
        self._is_quiet = is_quiet
        self._is_terminal = stream.isatty()
        self._lock = threading.Lock()
        self._colours: dict[str, int] = {}
        self._bar = ""

    def line(self, name: str, text: str) -> None:
        """Write a line of the process `name`."""
        if not self._is_quiet:
            self._write(f"{self._prefix(name)} {text}")

    def say(self, text: str) -> None:
        """Write a sentence of our own."""
        self._write(text)

    def bar(self, percent: float, text: str) -> None:
        """Show how far something is; `percent` is 0 to 100."""
        filled = round(_BAR_WIDTH * min(max(percent, 0.0), 100.0) / 100)
        drawn = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {percent:3.0f} % {text}"
        with self._lock:
            if drawn == self._bar:
                return
            self._bar = drawn
            self._emit(f"\r\x1b[K{drawn}" if self._is_terminal else f"{drawn}\n")

    def end_bar(self) -> None:
        """Leave the bar as it stands and go on below it."""
        with self._lock:
            if self._bar and self._is_terminal:
                self._emit("\n")
            self._bar = ""

    def _prefix(self, name: str) -> str:
        padded = f"{name:<{_NAME_WIDTH}}|"
        if not self._is_terminal:
            return padded
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        return f"\x1b[{colour}m{padded}\x1b[0m"

    def _write(self, text: str) -> None:
        with self._lock:
            if self._bar and self._is_terminal:
                self._emit(f"\r\x1b[K{text}\n{self._bar}")
            else:
                self._emit(f"{text}\n")

    def _emit(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._is_quiet = True
