"""`python -m bench [--quick] [--results DIRECTORY]`: measure, print, keep."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from time import perf_counter
from types import FrameType

from bench.report import RESULTS, costs, machine, table, write_lines
from bench.rounds import QUICK, Sizes, measure
from bench.stage import Stage


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of JSON lines")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    signal.signal(signal.SIGTERM, _leave)
    start = perf_counter()

    def say(step: str) -> None:
        print(f"[{perf_counter() - start:5.0f} s] {step}", flush=True)

    say("start PostgreSQL, Valkey and RabbitMQ")
    with Stage() as stage:
        about = machine(stage)
        found = measure(stage, sizes, say)
    print()
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"\n{table(found)}\n\n{costs(found, sizes)}\n")
    path = write_lines(found, sizes, about, directory=options.results)
    print(f"Took {perf_counter() - start:.0f} s; kept in {path}")


def _leave(number: int, _frame: FrameType | None) -> None:
    """End through the `finally` blocks that stop what was started."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
