"""`manage.py up`: run the whole platform on this machine until Ctrl-C."""

from __future__ import annotations

import os
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from tasks_app.errors import InfrastructureError, StoreUnavailable
from tasks_app.management import bootstrap, demo, installation
from tasks_app.management.console import Console
from tasks_app.management.supervisor import StopAsked, Supervisor

_NEXT_STEPS: Final = """
Try it in a second terminal:

  eval "$({python} manage.py credentials)"
  curl -sS -H "Authorization: Bearer $TASKMILL_TOKEN" -H "Content-Type: application/json" \\
       -H "Prefer: wait=20" "$TASKMILL_URL/api/v1/tasks" \\
       -d '{{"type": "demo.echo", "payload": {{"hello": "world"}}}}'

API documentation  {url}/api/docs
Administration     {url}/admin/  (user and password: {file})
Stop               Ctrl-C
"""


class Command(BaseCommand):
    """Starts the embedded servers that no URL replaces, then web, worker, engine and beat."""

    help = "Run the whole platform on this machine until Ctrl-C."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        parser.add_argument("--port", type=int, default=None, help="Default: $PORT, or 8000.")
        parser.add_argument("--concurrency", type=int, default=cores, help="Default: the cores.")
        parser.add_argument("--demo", action="store_true", help="Submit a task and show it.")
        parser.add_argument("--once", action="store_true", help="Stop after --demo.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until asked to stop.

        Raises:
            CommandError: the platform cannot start, or its demo failed; says why.
        """
        run = _Run(options)
        try:
            run.start()
        except StopAsked:
            run.console.say("Stopped before everything was started.")
        except InfrastructureError as error:
            run.failure = str(error)
        finally:
            run.stop()
        if run.failure:
            raise CommandError(run.failure)


class _Run:
    """One run of the platform."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.failure = ""
        self.console = Console(sys.stdout, is_quiet=options["once"])
        self.options = options
        self.port = int(options["port"] or settings.PORT)
        self.url = f"http://{installation.HOST}:{self.port}"
        self.var = settings.EMBEDDED.var
        self.supervisor = Supervisor(
            self.console,
            self._environment(),
            directory=settings.BASE_DIR,
            var=self.var,
        )
        self._is_demo_over = False
        self._lock: installation.Lock | None = None

    def start(self) -> None:
        """Start everything and stay until asked to stop, or until the demo is over."""
        supervisor = self.supervisor
        supervisor.listen_to_signals()
        self._lock = installation.take_directory(self.var)
        web_socket = installation.take_port(self.port)
        ended = installation.end_leftovers(self.var)
        if ended:
            self.console.say(f"Ended {ended} processes that an earlier run left behind.")
        bootstrap.ensure_secret_key(settings.EMBEDDED.secret_key)
        for server in installation.embedded_servers():
            self.console.say(f"Starting {server.name}")
            supervisor.start_server(server)
            installation.make_database(server)
        token = self._prepare()
        made = installation.programs(
            web_socket=web_socket.fileno(), concurrency=self.options["concurrency"]
        )
        for name in installation.START_ORDER:
            supervisor.start(made[name])
        self._wait_until_ready()
        self._welcome()
        if self.options["demo"]:
            threading.Thread(target=self._demo, args=(token,), daemon=True).start()
        supervisor.run_until(lambda: self._is_demo_over and self.options["once"])
        web_socket.close()

    def stop(self) -> None:
        """Stop what runs, in order, and leave nothing behind."""
        if self._lock is None:
            return
        if self.options["once"] and not self._is_demo_over and not self.failure:
            self.failure = "stopped before the demo was over"
        if self.supervisor.children:
            self.console.end_bar()
            self.console.say("Stopping")
        if self.failure and self.options["once"]:
            self._show_last_lines()
        is_orderly = self.supervisor.stop_programs(installation.STOP_ORDER)
        installation.end_leftovers(self.var)
        self.supervisor.stop_servers()
        if not is_orderly and not self.failure:
            self.failure = "not every process stopped in time; those were killed"

    def _environment(self) -> dict[str, str]:
        inherited = dict(os.environ)  # noqa: TID251 - the programs inherit it whole
        own = {
            "TASKMILL_VAR": str(self.var),
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
        }
        return inherited | own

    def _prepare(self) -> str:
        self.supervisor.check_stop()
        try:
            bootstrap.migrate()
            credentials = bootstrap.ensure_credentials(
                settings.EMBEDDED.credentials, url=self.url, say=self.console.say
            )
        except DatabaseError as error:
            message = f"the database cannot be prepared: {error}; check DATABASE_URL"
            raise StoreUnavailable(message) from error
        finally:
            bootstrap.close_connections()
        self.supervisor.check_stop()
        return credentials.token

    def _wait_until_ready(self) -> None:
        ready = installation.Readiness(self.port)
        supervisor = self.supervisor
        supervisor.run_until(
            lambda: bool(supervisor.hopeless()) or ready(), seconds=installation.READY_SECONDS
        )
        supervisor.check_stop()
        if supervisor.hopeless():
            raise InfrastructureError(
                f"{', '.join(supervisor.hopeless())} cannot start; the lines above say why"
            )
        if not ready.is_ready:
            raise InfrastructureError(
                f"not ready after {installation.READY_SECONDS:.0f} s; missing: {ready.missing}"
            )

    def _welcome(self) -> None:
        self.console.say(f"Taskmill is ready at {self.url}")
        if not self.options["once"]:
            file = settings.EMBEDDED.credentials
            self.console.say(_NEXT_STEPS.format(url=self.url, file=file, python=_python()))

    def _demo(self, token: str) -> None:
        try:
            task = demo.run_demo(demo.ApiClient(self.url, token), self._show_task)
        except InfrastructureError as error:
            self.console.end_bar()
            self.console.say(f"Demo: {error}")
            self.failure = str(error) if self.options["once"] else ""
        else:
            self.console.end_bar()
            self.console.say(f"Demo task {task['id']} succeeded: {task['result']}")
        finally:
            self.supervisor.post(self._end_demo)

    def _show_task(self, task: Mapping[str, Any]) -> None:
        self.console.bar(float(task["progress"]), task["progress_message"] or task["status"])

    def _end_demo(self) -> None:
        self._is_demo_over = True

    def _show_last_lines(self) -> None:
        for child in self.supervisor.children.values():
            for line in child.lines:
                self.console.say(f"{child.program.name} said: {line}")


def _python() -> str:
    """Give the path of this interpreter as a person would type it."""
    path = Path(sys.executable)
    base = Path(settings.BASE_DIR)
    return str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
