"""The Procfile under honcho, on RabbitMQ, Valkey and PostgreSQL of their own, as in production."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks_app.management.bootstrap import Credentials
from tests.acceptance.installations import NOT_INHERITED, SHORT_TIMES
from tests.processes import ROOT, wait_for
from tests.rabbitmq import free_port

PROGRAMS = ("web", "worker", "engine", "beat", "flower")
PREPARE = """
import django, sys
django.setup()
from pathlib import Path
from tasks_app.management import bootstrap
bootstrap.migrate()
bootstrap.ensure_credentials(Path(sys.argv[1]), url=sys.argv[2], say=print)
"""


class Production:
    """The Procfile's programs, with where they answer."""

    def __init__(self, directory: Path, postgres: Any, valkey: Any, broker_url: str) -> None:
        postgres.create_database("procfile")
        self.port, self.flower_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "honcho.log"
        self.credentials_file = directory / "credentials.json"
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = kept | {
            **SHORT_TIMES,
            "PATH": programs,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": str(ROOT),
            "TASKMILL_VAR": str(directory / "unused"),
            "SECRET_KEY": "procfile-" + "0123456789abcdef" * 4,
            "DATABASE_URL": postgres.url("procfile"),
            "BROKER_URL": broker_url,
            "REDIS_URL": f"unix://{valkey.socket}?db=3",
            "TASKMILL_CELERY_EVENTS": "1",
            "PORT": str(self.port),
            "HOST": "127.0.0.1",
            "FLOWER_ADDRESS": "127.0.0.1",
            "FLOWER_PORT": str(self.flower_port),
            "FLOWER_BASIC_AUTH": "operator:secret",
        }
        self.popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        prepare = [sys.executable, "-c", PREPARE, str(self.credentials_file), self.url]
        subprocess.run(prepare, env=self.environment, cwd=ROOT, check=True)
        honcho = shutil.which("honcho", path=self.environment["PATH"])
        assert honcho is not None
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                [honcho, "start", *PROGRAMS],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for(self._is_healthy, seconds=90, reason=f"health; {self.log}")

    def _is_healthy(self) -> bool:
        assert self.popen is not None
        assert self.popen.poll() is None, self.log.read_text(errors="replace")[-6000:]
        try:
            return self.api("GET", "/health").status_code == 200
        except httpx.HTTPError:
            return False

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        known = Credentials.read(self.credentials_file)
        assert known is not None
        sent = {"Authorization": f"Bearer {known.token}", **headers}
        url = f"{self.url}/api/v1{path}"
        return httpx.request(method, url, json=body, headers=sent, timeout=40)

    def flower(self, path: str, **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.flower_port}/flower{path}"
        return httpx.get(url, timeout=20, **options)

    def stop(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            self.popen.wait(40)


@pytest.fixture
def production(tmp_path: Path, postgres: Any, valkey: Any, rabbitmq: Any) -> Iterator[Production]:
    made = Production(tmp_path, postgres, valkey, rabbitmq.url)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_the_procfile_runs_tasks_over_rabbitmq_and_flower_knows_them_by_name(
    production: Production, rabbitmq: Any
) -> None:
    body = {"type": "demo.echo", "payload": {"hello": "world"}}
    done = production.api("POST", "/tasks", body, Prefer="wait=30").json()
    assert (done["status"], done["result"]) == ("success", {"hello": "world"})
    kinds = dict(
        line.split("\t")
        for line in rabbitmq.control("list_queues", "name", "type").splitlines()
        if "\t" in line
    )
    assert kinds["default"] == "quorum"

    refused = production.flower(f"/api/task/info/{done['id']}")
    assert refused.status_code == 401
    auth = ("operator", "secret")

    def seen() -> dict[str, Any]:
        answer = production.flower(f"/api/task/info/{done['id']}", auth=auth)
        return answer.json() if answer.status_code == 200 else {}

    def again() -> dict[str, Any]:
        """Flower shows what it saw run; it may have come up after the first task."""
        nonlocal done
        if not seen():
            done = production.api("POST", "/tasks", body, Prefer="wait=30").json()
        return seen()

    shown = wait_for(again, seconds=30, reason="the task in Flower")
    assert shown["name"] == "demo.echo"
    wait_for(lambda: seen()["state"] == "SUCCESS", seconds=10)
    answer = httpx.post(
        f"http://127.0.0.1:{production.flower_port}/flower/api/task/async-apply/demo.echo",
        auth=auth,
        json={"args": []},
        timeout=20,
    )
    assert answer.status_code in {401, 403, 405}

    checked = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"],
        cwd=ROOT,
        env=production.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    faults = [row for row in json.loads(checked.stdout) if not row["ok"]]
    assert {row["check"] for row in faults} <= {"database.fsync", "database.full_page_writes"}
