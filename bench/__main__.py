"""`python -m bench [--quick] [--results DIRECTORY]`: measure Taskmill alone, print, keep."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

from bench.report import RESULTS, costs, machine, table, write_lines
from bench.rounds import QUICK, Sizes, measure
from bench.run import end_in_order, sayer
from bench.stage import Stage
from bench.taskmill import Taskmill

MEASURES = ("submit", "bulk", "drain", "latency")


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of JSON lines")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    end_in_order()
    start, say = perf_counter(), sayer()
    say("start PostgreSQL, Valkey and RabbitMQ")
    with Stage() as stage:
        about = machine(stage)
        systems = [Taskmill(stage, "rabbitmq"), Taskmill(stage, "valkey")]
        found = measure(systems, MEASURES, sizes, say)
    print()
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"\n{table(found)}\n\n{costs(found)}\n")
    path = options.results / f"{about['at'][:10]}.jsonl"
    write_lines(found, sizes, about, path=path)
    print(f"Took {perf_counter() - start:.0f} s; kept in {path}")


if __name__ == "__main__":
    main()
