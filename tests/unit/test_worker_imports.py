"""A worker has no use for the web side: it starts without it, sooner and smaller."""

from __future__ import annotations

import json
import subprocess
import sys

LOAD = """
import json, sys
from config.celery import app
app.loader.import_default_modules()
app.finalize()
print(json.dumps(sorted(sys.modules)))
"""


def test_a_worker_imports_its_tasks_and_nothing_of_the_web() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    found = set(json.loads(done.stdout))
    assert {"tasks_app.celery_tasks", "tasks_app.models.task"} <= found
    web = {"config.urls", "rest_framework.views", "drf_spectacular.openapi", "tasks_app.api"}
    web |= {"tasks_app.admin", "limits"}
    assert found & web == set()
