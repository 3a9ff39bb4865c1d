"""Stock clients from npm: pinned packages, installed once per lock file, run under Node."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT

INSTALL_SECONDS = 180


class NodeFault(Exception):
    """A package cannot be installed; the message says why."""


def node_package(source: Path) -> Path:
    """Give a directory below var/ with a package's dependencies installed from its lock file.

    Skips the test where that is not possible, fails it where `CI=true`.
    """
    try:
        return install_node_package(source)
    except NodeFault as fault:
        if os.environ.get("CI") == "true":
            pytest.fail(str(fault))
        pytest.skip(str(fault))


def install_node_package(source: Path) -> Path:
    """Give the same directory.

    Raises:
        NodeFault: that is not possible.
    """
    lock = (source / "package-lock.json").read_bytes() + (source / "package.json").read_bytes()
    place = ROOT / "var" / "node" / f"{source.name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (place / "node_modules").exists():
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise NodeFault("Node and npm are not installed (apt-get install nodejs npm)")
        _install(source, place)
    return place


def _install(source: Path, place: Path) -> None:
    making = place.with_name(f"{place.name}.{os.getpid()}")
    making.mkdir(parents=True)
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, making)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(
            command,
            cwd=making,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise NodeFault(f"npm ci failed: {done.stderr[-2000:]}")
        shutil.rmtree(place, ignore_errors=True)
        making.rename(place)
    finally:
        shutil.rmtree(making, ignore_errors=True)


class NodeClient:
    """A script that prints JSON lines."""

    def __init__(self, script: Path, options: dict[str, Any]) -> None:
        self._popen = subprocess.Popen(
            ["node", script.name, json.dumps(options)],
            cwd=script.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def next(self, *, seconds: float = 30) -> dict[str, Any] | None:
        """Give the next line; None at the script's end."""
        line = self._lines.get(timeout=seconds)
        if line is None:
            return None
        assert line.startswith("{"), line
        found: dict[str, Any] = json.loads(line)
        return found

    def until(self, kind: str, *, seconds: float = 30) -> list[dict[str, Any]]:
        """Give the lines up to the first of a kind."""
        found = []
        while True:
            one = self.next(seconds=seconds)
            assert one is not None, (kind, found)
            found.append(one)
            if one["kind"] == kind:
                return found

    def rest(self) -> list[dict[str, Any]]:
        """Give the lines up to the end, which has to come by itself."""
        found = []
        while (one := self.next()) is not None:
            found.append(one)
        assert self._popen.wait(10) == 0, found
        return found

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        self._reader.join(10)
        assert self._popen.stdout is not None
        self._popen.stdout.close()


@contextmanager
def node_client(script: Path, **options: Any) -> Iterator[NodeClient]:
    """A running script, with its options as one JSON argument."""
    client = NodeClient(script, options)
    try:
        yield client
    finally:
        client.end()
