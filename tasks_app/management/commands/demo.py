"""`manage.py demo`: a newcomer's first run, on a free port and in a temporary directory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand

_OWN_SERVERS: Final = ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "SECRET_KEY")


class Command(BaseCommand):
    """Runs `up --demo --once` with embedded servers only, and removes everything afterwards."""

    help = "Start everything in a temporary place, run a task to its end, stop. Exit code 0 or 1."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it and leave with its exit code."""
        var = Path(tempfile.mkdtemp(prefix="taskmill-demo-"))
        try:
            code = self._run(var)
        finally:
            shutil.rmtree(var, ignore_errors=True)
        if code != 0:
            sys.exit(1)

    def _run(self, var: Path) -> int:
        environment = dict(os.environ)  # noqa: TID251 - the child inherits it but for our servers
        for name in _OWN_SERVERS:
            environment.pop(name, None)
        environment |= {"TASKMILL_VAR": str(var), "PORT": str(_free_port())}
        command = [sys.executable, "manage.py", "up", "--demo", "--once"]
        with subprocess.Popen(command, env=environment, cwd=settings.BASE_DIR) as child:
            signal.signal(signal.SIGINT, lambda *_: None)  # the child gets it too
            signal.signal(signal.SIGTERM, lambda *_: child.terminate())
            return child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
