"""The API while the database is away: an honest 503, never a false 202, and back by itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks_app.clock import monotonic
from tasks_app.management.servers import Postgres

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 60.0
MAKE_KEY = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from tasks_app.models import Tenant
from tasks_app.services.keys import SCOPES, create_api_key
tenant, _ = Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})
print(create_api_key(tenant=tenant, name="tests", scopes=SCOPES)[1])
"""


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    directory = tmp_path_factory.mktemp("away")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    server = Postgres(directory / "data", directory / "run", log=directory / "log")
    server.start(options=["fsync=off"])
    server.create_database("taskmill")
    yield server
    server.stop()


@pytest.fixture
def web(database: Postgres, free_port: int) -> Iterator[httpx.Client]:
    variables = os.environ | {
        "DATABASE_URL": database.url("taskmill"),
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    made = subprocess.run(
        [sys.executable, "-c", MAKE_KEY],
        env=variables, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    command = ["-m", "uvicorn", "config.asgi:application", "--port", str(free_port)]
    process = subprocess.Popen(
        [sys.executable, *command], env=variables, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    headers = {"Authorization": f"Bearer {made.stdout.split()[-1]}"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{free_port}", headers=headers, timeout=30
        ) as client:
            wait_for(client, 200)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def wait_for(client: httpx.Client, status: int) -> None:
    end, pause = monotonic() + WAIT_SECONDS, threading.Event()
    while monotonic() < end:
        try:
            if client.get("/readyz").status_code == status:
                return
        except httpx.TransportError:
            pass
        pause.wait(0.1)
    raise AssertionError(f"/readyz never answered {status}")


def submit(client: httpx.Client) -> Any:
    body = {"type": "demo.echo", "payload": {}}
    return client.post("/api/v1/tasks", json=body, headers={"Idempotency-Key": "k"})


def test_without_its_database_the_api_answers_503_and_recovers_by_itself(
    web: httpx.Client, database: Postgres
) -> None:
    assert web.get("/api/v1/workers").status_code == 200
    database.stop()
    answer = submit(web)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert web.get("/readyz").status_code == 503
    health = web.get("/health").json()["parts"]
    assert health["database"]["status"] == health["workers"]["status"] == "unavailable"
    assert web.get("/livez").status_code == 200
    database.start(options=["fsync=off"])
    wait_for(web, 200)
    end, pause = monotonic() + WAIT_SECONDS, threading.Event()
    while (again := submit(web)).status_code == 503 and monotonic() < end:
        pause.wait(0.1)
    assert again.status_code == 202
    assert "Idempotency-Replayed" not in again.headers
