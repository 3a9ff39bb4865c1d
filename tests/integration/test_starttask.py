"""`manage.py starttask` in an app of its own: what it writes is clean, typed, and tests itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

OF_TESTS = "S,PLR2004,D1"
"""What this repository too allows its tests."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    package = tmp_path / "shop"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text('"""A shop."""\n', "utf-8")
    (package / "tests" / "__init__.py").write_text("", "utf-8")
    return package


def run(shop: Path, *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    paths = f"{shop.parent}{os.pathsep}{ROOT}"
    environment = os.environ | {"TASKMILL_APPS": "shop", "PYTHONPATH": paths, "MYPYPATH": paths}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def start(shop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(shop, "manage.py", "starttask", *words)


def test_what_it_writes_is_clean_and_passes_its_own_test(shop: Path) -> None:
    done = start(shop, "shop.count-stock")
    assert done.returncode == 0, done.stderr
    handlers, test = shop / "handlers.py", shop / "tests" / "test_count_stock.py"
    assert (str(handlers) in done.stdout, str(test) in done.stdout) == (True, True)
    config = str(ROOT / "pyproject.toml")
    for words in (
        ("ruff", "check", "--no-cache", "--config", config, str(handlers)),
        ("ruff", "check", "--no-cache", "--config", config, "--ignore", OF_TESTS, str(test)),
        ("ruff", "format", "--no-cache", "--check", "--config", config, str(shop)),
        ("mypy", "--config-file", config, str(handlers), str(test)),
        ("pytest", "-q", "-c", config, "--rootdir", str(ROOT), "-p", "no:cacheprovider", str(test)),
    ):
        found = run(shop, "-m", *words)
        assert found.returncode == 0, (words, found.stdout, found.stderr)


def test_it_overwrites_nothing(shop: Path) -> None:
    (shop / "handlers.py").write_text("MINE = 1\n", "utf-8")
    done = start(shop, "shop.render")
    assert (done.returncode, "is there already" in done.stderr) == (1, True)
    assert '@handler("shop.render"' in done.stdout
    assert (shop / "handlers.py").read_text("utf-8") == "MINE = 1\n"
    assert not (shop / "tests" / "test_render.py").exists()
    (shop / "handlers.py").unlink()
    (shop / "tests" / "test_render.py").write_text("MINE = 1\n", "utf-8")
    assert start(shop, "shop.render").returncode == 1
    assert not (shop / "handlers.py").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("Shop.Render",), "no name for a task type"),
        (("shop.class",), "no name for a task type"),
        (("bar.render",), "no app 'bar'"),
        (("demo.echo", "--app", "shop"), "there already, in tasks_app.handlers"),
    ],
)
def test_what_cannot_be_is_told(shop: Path, words: tuple[str, ...], told: str) -> None:
    done = start(shop, *words)
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert not (shop / "handlers.py").exists()
