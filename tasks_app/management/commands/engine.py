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

from django.conf import settings as django_settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tasks_app.conf import TasksConf, conf
from tasks_app.dispatch.loop import DispatchWork
from tasks_app.dispatch.publish import make_publisher
from tasks_app.loops import Loop, Stop, Work
from tasks_app.maintenance.loop import MaintainWork, maintain_steps
from tasks_app.relay.loop import RelayWork
from tasks_app.telemetry import logger

log = logger(__name__)

LOOPS = ("dispatch", "maintain", "relay")


def make_work(name: str, settings: TasksConf) -> Work:
    """Build what the loop `name` does."""
    if name == "dispatch":
        is_watched = django_settings.CELERY_WORKER_SEND_TASK_EVENTS
        return DispatchWork(make_publisher(), settings, is_bundling=not is_watched)
    if name == "relay":
        return RelayWork(settings)
    return MaintainWork(maintain_steps(settings))


def make_loop(name: str, settings: TasksConf, stop: Stop) -> Loop:
    """Build the loop `name`."""
    return Loop(
        make_work(name, settings),
        stop=stop,
        lease_seconds=settings.leader_lease_seconds,
        health_gap_seconds=settings.lease_seconds / 2,
    )


class Command(BaseCommand):
    """Run the engine."""

    help = "Run the dispatch, maintain and relay loops until SIGTERM or SIGINT."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Take `--only dispatch,maintain,relay`."""
        parser.add_argument(
            "--only", default=",".join(LOOPS), help="Loops to run, comma separated."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run until stopped."""
        names = [name.strip() for name in options["only"].split(",") if name.strip()]
        unknown = sorted(set(names) - set(LOOPS))
        if unknown or not names:
            raise CommandError(f"--only takes some of {', '.join(LOOPS)}, not {options['only']!r}")
        stop = Stop()

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        run_loops([make_loop(name, conf(), stop) for name in names], stop)


def run_loops(loops: list[Loop], stop: Stop) -> None:
    """Run loops in threads until the stop is set and each has finished its round.

    Raises:
        CommandError: a loop ended though nobody asked it to; a supervisor starts the engine again.
    """
    threads = [
        threading.Thread(target=loop.run, name=loop.work.name, daemon=True) for loop in loops
    ]
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
