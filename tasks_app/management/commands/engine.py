"""`manage.py engine`: runs the loops that keep tasks moving, one thread each, until SIGTERM or
SIGINT.

Start any number of engines: each loop has one leader, the others stand by. `kill -9` costs the
leader's lease, an orderly stop nothing.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tasks_app.conf import TasksConf, conf
from tasks_app.engine_loops import EngineLoop, engine_loops
from tasks_app.garbage import spare_what_stays
from tasks_app.loops import Loop, Stop
from tasks_app.telemetry import logger

log = logger(__name__)


def make_loop(declared: EngineLoop, settings: TasksConf, stop: Stop) -> Loop:
    """Build a loop."""
    return Loop(
        declared.make_work(),
        stop=stop,
        lease_seconds=settings.leader_lease_seconds,
        health_gap_seconds=settings.lease_seconds / 2,
    )


class Command(BaseCommand):
    """Run the engine."""

    help = "Run the loops that keep tasks moving and tell of them, until SIGTERM or SIGINT."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take `--only dispatch,maintain,relay`."""
        parser.add_argument(
            "--only", default=",".join(engine_loops()), help="Loops to run, comma separated."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run until stopped."""
        names = [name.strip() for name in options["only"].split(",") if name.strip()]
        known = engine_loops()
        if not names or not set(names) <= set(known):
            raise CommandError(f"--only takes some of {', '.join(known)}, not {options['only']!r}")
        stop = Stop()

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        run_loops([make_loop(known[name], conf(), stop) for name in names], stop)


def run_loops(loops: list[Loop], stop: Stop) -> None:
    """Run loops in threads until the stop is set and each has finished its round.

    Raises:
        CommandError: a loop ended though nobody asked it to; a supervisor starts the engine again.
    """
    threads = [
        threading.Thread(target=loop.run, name=loop.work.name, daemon=True) for loop in loops
    ]
    spare_what_stays()
    for thread in threads:
        thread.start()
    log.info("the engine runs", loops=[loop.work.name for loop in loops])
    while not stop.wait(1.0):
        if not all(thread.is_alive() for thread in threads):
            stop.set()
            raise CommandError("a loop of the engine ended unexpectedly")
    for thread in threads:
        thread.join()
    log.info("the engine stopped")
