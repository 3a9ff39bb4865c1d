"""A whole installation for tests: `manage.py up` in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.processes import ROOT, wait_for
from tests.rabbitmq import free_port

SHORT_TIMES = {
    "TASKMILL_LEASE_SECONDS": "3",
    "TASKMILL_LEASE_GRACE_SECONDS": "1",
    "TASKMILL_LEASE_MARGIN_SECONDS": "1",
    "TASKMILL_LEADER_LEASE_SECONDS": "2",
    "TASKMILL_KILL_GRACE_SECONDS": "1",
    "TASKMILL_SHUTDOWN_GRACE_SECONDS": "1",
}
NOT_INHERITED = ("SECRET_KEY", "DATABASE_URL", "BROKER_URL", "REDIS_URL", "PYTEST_CURRENT_TEST")


class Installation:
    """Starts and watches `manage.py up` in one directory."""

    def __init__(self, var: Path | None = None, **variables: str) -> None:
        self.var = var or Path(tempfile.mkdtemp(prefix="taskmill-up-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.variables = variables
        self.log = self.var.with_suffix(".log")
        self.popen: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        own = {"TASKMILL_VAR": str(self.var), "PORT": str(self.port)}
        return kept | SHORT_TIMES | own | self.variables

    def launch(self, *arguments: str, before: tuple[str, ...] = ()) -> None:
        command = [*before, sys.executable, "manage.py", "up", "--concurrency", "2", *arguments]
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment(),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, *arguments: str, before: tuple[str, ...] = ()) -> None:
        """Start and wait for the readiness line."""
        self.launch(*arguments, before=before)
        self.wait_for_line(f"Taskmill is ready at {self.url}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_line(self, text: str, *, seconds: float = 120.0) -> None:
        def is_there() -> bool:
            if text in self.output():
                return True
            assert self.popen is not None
            assert self.popen.poll() is None, f"up ended:\n{self.output()[-6000:]}"
            return False

        wait_for(is_there, seconds=seconds, reason=f"{text!r} in:\n{self.output()[-3000:]}")

    def end(self, number: int = signal.SIGTERM, *, seconds: float = 60.0) -> int:
        """Send a signal and give the exit code."""
        assert self.popen is not None
        self.popen.send_signal(number)
        return self.popen.wait(seconds)

    def credentials(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.var / "credentials.json").read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """Every living process that belongs to the installation, by what it was started with."""
        us = os.getpid()
        return [one for one in psutil.process_iter() if one.pid != us and self._is_ours(one)]

    def _is_ours(self, process: psutil.Process) -> bool:
        var = str(self.var)
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if any(var in argument for argument in process.cmdline()):
                return True
            return process.environ().get("TASKMILL_VAR") == var
        except (psutil.Error, OSError):
            return False

    def left(self) -> list[str]:
        """Give the command lines of what still runs."""
        return [" ".join(one.cmdline()) for one in self.processes() if one.is_running()]

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        token = self.credentials()["token"]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.request(
            method,
            f"{self.url}/api/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}", **named},
            timeout=40.0,
        )

    def submit(self, task_type: str, payload: Mapping[str, Any], **headers: str) -> dict[str, Any]:
        body = {"type": task_type, "payload": payload}
        answer = self.api("POST", "/tasks", body, **headers)
        assert answer.status_code in {200, 202}, answer.text
        task: dict[str, Any] = answer.json()
        return task

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"/tasks/{task_id}").json()
        return found

    def remove(self) -> None:
        """End what a failed test left, and delete the directory."""
        import shutil

        for process in self.processes():
            process.kill()
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        shutil.rmtree(self.var, ignore_errors=True)
        self.log.unlink(missing_ok=True)
