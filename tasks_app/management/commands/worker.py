"""`manage.py worker`: Celery's own `worker` command for this project, with all of its options.

The umbrella command `celery -A config worker` starts the same worker, but first loads the plugins
of all that is installed, Flower's web server among them, into each worker: ten megabytes and half a
second.
"""

from __future__ import annotations

from typing import Any

from celery.app import app_or_default
from celery.bin.base import CLIContext
from celery.bin.worker import worker
from django.core.management.base import BaseCommand, CommandError
from typing_extensions import override

DEFAULTS = ("--without-mingle", "--without-gossip")
"""Workers know of one another by the database."""


class Command(BaseCommand):
    """Run a worker."""

    help = "Run a worker; takes the options of `celery worker`, see `manage.py worker --help`."
    requires_system_checks = ()

    @override
    def run_from_argv(self, argv: list[str]) -> None:
        """Hand the whole command line to Celery's command."""
        command: Any = worker
        context = CLIContext(app=app_or_default(), no_color=False, workdir=None)
        command.main(args=[*DEFAULTS, *argv[2:]], obj=context, prog_name="manage.py worker")

    @override
    def handle(self, *_args: Any, **_options: Any) -> None:
        """Refuse to be called from Python: a worker takes its process over.

        Raises:
            CommandError: always.
        """
        raise CommandError("start a worker as a process of its own: manage.py worker")
