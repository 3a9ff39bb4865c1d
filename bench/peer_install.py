"""Installs the peers, each kind in a place of its own below `var/`, never beside the product.

What is installed is pinned in `bench/peer_requirements.txt` and `bench/peer_bullmq/`; a place is
named for what is pinned, so that a change installs anew and nothing is installed twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import ROOT, BenchFault
from tests.node_clients import NodeFault, install_node_package

REQUIREMENTS = ROOT / "bench" / "peer_requirements.txt"
NODE_SOURCE = ROOT / "bench" / "peer_bullmq"
PLACE = ROOT / "var" / "peers"
INSTALL_SECONDS = 300


def peer_python(requirements: Path = REQUIREMENTS, place: Path = PLACE) -> str:
    """Give the interpreter of a virtual environment that has the Python peers.

    Raises:
        BenchFault: they cannot be installed.
    """
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    home = place / f"python-{digest}"
    python, ready = home / "bin" / "python", home / ".ready"
    if not ready.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        uv = Path(sys.executable).with_name("uv")
        if uv.exists():
            command = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
        else:
            command = [str(python), "-m", "pip", "install", "--quiet"]
        _run([*command, "-r", str(requirements)])
        ready.touch()
    return str(python)


def peer_node(source: Path = NODE_SOURCE) -> Path:
    """Give a directory with the scripts of BullMQ and all that they import.

    Raises:
        BenchFault: they cannot be installed.
    """
    try:
        place = install_node_package(source)
    except NodeFault as fault:
        raise BenchFault(f"{fault}; or leave BullMQ out with --systems") from fault
    for script in source.glob("*.mjs"):
        shutil.copy(script, place)
    return place


def peer_versions() -> dict[str, str]:
    """Give the pinned versions by package."""
    lines = REQUIREMENTS.read_text(encoding="utf8").splitlines()
    pinned = [line.partition("==") for line in lines if "==" in line and line[:1] != "#"]
    node = json.loads((NODE_SOURCE / "package.json").read_text(encoding="utf8"))["dependencies"]
    return {name.partition("[")[0]: version for name, _, version in pinned} | dict(node)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired as fault:
        raise BenchFault(f"{' '.join(command)}: no end in {INSTALL_SECONDS} s") from fault
    if done.returncode != 0:
        raise BenchFault(f"the peers cannot be installed: {done.stdout}{done.stderr[-2000:]}")
