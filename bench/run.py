"""What every run of a measurement does around it: read numbers, end in order, tell its steps."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from time import perf_counter
from types import FrameType


def end_in_order() -> None:
    """Let SIGTERM end the run through the `finally` blocks that stop what was started."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def whole(text: str) -> int:
    """Read an option's number of at least 1.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def sayer() -> Callable[[str], None]:
    """Give what prints a step with the seconds since now."""
    start = perf_counter()

    def say(step: str) -> None:
        print(f"[{perf_counter() - start:5.0f} s] {step}", flush=True)

    return say
