"""A worker has no use for the web side: it starts without it, sooner and smaller."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command

LOAD = """
import json, sys
from config.celery import app
app.loader.import_default_modules()
app.finalize()
print(json.dumps(sorted(sys.modules)))
"""


COMMAND = """
import json, sys
import config
import tasks_app.management.commands.worker
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_a_worker_imports_its_tasks_and_nothing_of_the_web() -> None:
    found = loaded_by(LOAD)
    assert {"tasks_app.celery_tasks", "tasks_app.models.task"} <= found
    web = {"config.urls", "rest_framework.views", "drf_spectacular.openapi", "tasks_app.api"}
    web |= {"tasks_app.admin", "limits", "channels.layers", "redis"}
    assert found & web == set()


def test_the_command_of_a_worker_loads_no_plugins_of_celery_s() -> None:
    found = loaded_by(COMMAND)
    assert "celery.bin.worker" in found
    assert found & {"flower", "tornado", "celery.bin.celery"} == set()


def test_the_command_has_celery_s_options_and_is_a_process_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "worker", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "manage.py worker" in done.stdout
    assert "--concurrency" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "manage.py", "worker", "--no-such"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, "No such option" in wrong.stderr) == (2, True)
    with pytest.raises(CommandError, match="process of its own"):
        call_command("worker")
