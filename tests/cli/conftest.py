"""One platform with a worker for all tests of the command; each test has a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.installations import Installation
from tests.cli.shell import Shell
from tests.processes import ROOT

_MAKE_KEY = (
    "from tasks_app.models import Tenant; from tasks_app.services.keys import create_api_key;"
    "print(create_api_key(tenant=Tenant.objects.get(), name='tests', scopes={scopes!r})[1])"
)


@pytest.fixture(scope="session")
def platform() -> Iterator[Installation]:
    """A running platform with a worker of two slots."""
    made = Installation()
    try:
        made.start()
        yield made
        made.end()
    finally:
        made.remove()


@pytest.fixture
def taskmill(platform: Installation, tmp_path: Path) -> Shell:
    """The command, told of the platform by the environment."""
    return Shell(tmp_path, platform)


@pytest.fixture
def stranger(tmp_path: Path) -> Shell:
    """The command, told of nothing."""
    return Shell(tmp_path)


@pytest.fixture
def make_token(platform: Installation) -> Callable[..., str]:
    """Make keys of the platform with the scopes that are given."""

    def make(*scopes: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "-v0", "-c", _MAKE_KEY.format(scopes=scopes)],
            cwd=ROOT,
            env={**os.environ, **platform.environment(), "SECRET_KEY": "unused"},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return make
