"""Sets the environment before Django reads it: the early plugin `-p tests.environment`.

Everything of a run lives in one temporary directory; nothing is assumed to run, nothing of the
caller's is used.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

RUN_DIRECTORY = Path(tempfile.mkdtemp(prefix="taskmill-test-"))
RUN_DIRECTORY.chmod(0o755)
os.environ["TASKMILL_VAR"] = str(RUN_DIRECTORY)
os.environ["SECRET_KEY"] = "tests-only-" + "x" * 50
for _name in ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "MQTT_URL", "EMAIL_URL"):
    os.environ.pop(_name, None)


def pytest_unconfigure(config: Any) -> None:
    """Remove what the run left on disk."""
    shutil.rmtree(RUN_DIRECTORY, ignore_errors=True)
