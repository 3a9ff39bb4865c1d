"""Taskmill beside other task systems, in turn, on the same servers in one run: `make bench-peers`.

Peers are installed below `var/` when they are first measured. Prints what each did, and the ratios
that are promised; keeps JSON lines. See docs/explanation/performance.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from bench.bullmq_peer import BullMQ
from bench.celery_peer import CeleryDjango, CeleryDjangoTuned, CeleryRedis
from bench.drf_peer import Drf
from bench.peer_document import DOCUMENT, Document
from bench.peer_install import peer_versions
from bench.processes import BenchFault
from bench.procrastinate_peer import Procrastinate
from bench.report import RESULTS, load_average, machine, write_lines
from bench.rounds import MEASURES, QUICK, Sizes, measure
from bench.run import end_in_order, sayer, whole
from bench.stage import Stage
from bench.systems import System
from bench.taskmill import Taskmill

SYSTEMS: dict[str, Callable[[Stage], System]] = {
    "taskmill": lambda stage: Taskmill(stage, "rabbitmq"),
    "bullmq": BullMQ,
    "celery-redis": CeleryRedis,
    "celery-django": CeleryDjango,
    "celery-django-tuned": CeleryDjangoTuned,
    "procrastinate": Procrastinate,
    "drf": Drf,
}
DEFAULT = [name for name in SYSTEMS if name != "celery-django-tuned"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the measurements and print them.

    Args:
        arguments: of the command line; those of the process by default.
    """
    options = _options(arguments)
    end_in_order()
    start, say = perf_counter(), sayer()
    sizes = _sizes(options)
    try:
        say("start PostgreSQL, Valkey and RabbitMQ; install the peers")
        with Stage() as stage:
            about = machine(stage) | {"peers": _versions(), "load before": load_average()}
            systems = [SYSTEMS[name](stage) for name in options.systems]
            found = measure(systems, options.measures, sizes, say)
    except BenchFault as fault:
        raise SystemExit(f"bench-peers: {fault}") from fault
    about["load average at the end"] = load_average()
    about["took"] = f"{perf_counter() - start:.0f} s"
    document = Document(found, sizes, about)
    print(f"\n{document.text()}\n")
    path = options.results / f"peers-{about['at'][:10]}.jsonl"
    write_lines(found, sizes, about, path=path)
    print(f"Kept in {path}")
    if options.write_docs:
        document.write()
        print(f"Written into {DOCUMENT}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument(
        "--systems",
        type=lambda text: _names(text, SYSTEMS),
        default=DEFAULT,
        help=f"comma-separated, of {', '.join(SYSTEMS)}; default: {', '.join(DEFAULT)}",
    )
    parser.add_argument(
        "--measures",
        type=lambda text: _names(text, MEASURES),
        default=list(MEASURES),
        help=f"comma-separated, of {', '.join(MEASURES)}; default: all",
    )
    parser.add_argument("--rounds", type=whole, help="how often each measure is taken")
    parser.add_argument("--minutes", type=whole, help="after which no further round begins")
    parser.add_argument("--tasks", type=whole, help="tasks of a backlog and of a bulk submission")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of JSON lines")
    parser.add_argument("--write-docs", action="store_true", help=f"put the run into {DOCUMENT}")
    return parser.parse_args(arguments)


def _names(text: str, known: Mapping[str, object]) -> list[str]:
    """Read comma-separated names.

    Raises:
        ArgumentTypeError: one is not known, or none is given.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"{', '.join(unknown)} is unknown" if unknown else "no name is given"
        raise argparse.ArgumentTypeError(f"{what}; choose from {', '.join(known)}")
    return list(dict.fromkeys(names))


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else Sizes()
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    if options.minutes:
        sizes = replace(sizes, minutes=options.minutes)
    if options.tasks:
        sizes = replace(sizes, drain_tasks=options.tasks, bulk_tasks=options.tasks)
    return sizes


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in peer_versions().items())


if __name__ == "__main__":
    main()
