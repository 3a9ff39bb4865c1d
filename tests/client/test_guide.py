"""The words of the guide and of the package's page are run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from notifications.signing import shown_secret, signed_headers
from taskmill_client.version import VERSION
from tests.acceptance.installations import Installation
from tests.processes import ROOT

GUIDE = ROOT / "docs" / "how-to" / "use-the-python-client.md"
PACKAGE = ROOT / "client"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def printed_by(installation: Installation, code: str) -> list[str]:
    """Run code as a reader would; gives what it printed, line by line."""
    found = installation.credentials()
    names = {"TASKMILL_URL": installation.url, "TASKMILL_TOKEN": found["token"]}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | names | {"PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_guide_s_program_does_what_it_says(installation: Installation) -> None:
    told = blocks(GUIDE)
    program = [one for one in told if "verify_webhook" not in one and "FakeServer" not in one]
    assert len(told) - len(program) == 2
    lines = printed_by(installation, "\n".join([*program, "client.close()"]))
    assert lines[0].startswith("success {'steps': 3")
    assert any(re.fullmatch(r"100 % .*", line) for line in lines)
    assert any(line.startswith("1 task.created") for line in lines)
    assert "2500 taken" in lines
    assert any("system.clean" in line for line in lines)
    assert "validation_failed /payload/seconds" in lines
    assert "{'n': 1}" in lines
    assert "{'n': 2} True" in lines
    assert "OTHER" in lines
    assert any(re.fullmatch(r"\d+ OTHER .*", line) for line in lines)
    assert any(re.fullmatch(r"[1-9]\d* queued again", line) for line in lines)
    assert "running aborted" in lines
    assert lines[-1].startswith("{'steps': 3")


def test_the_package_s_page_does_what_it_says(installation: Installation) -> None:
    lines = printed_by(installation, "\n".join(blocks(PACKAGE / "README.md")))
    assert (lines[0], lines[-2]) == ("task.created", "task.succeeded")
    assert lines[-1].startswith("{'steps': 3")


def test_the_guide_s_receiver_believes_what_is_genuine() -> None:
    [code] = [one for one in blocks(GUIDE) if "verify_webhook" in one]
    declared: dict[str, Any] = {}
    exec(code, declared)
    keys = [b"a" * 24, b"b" * 24]
    event = {"id": "t.2", "type": "task.succeeded", "subject": "t", "time": "2026-11-28T12:00:00Z"}
    body = json.dumps(event | {"data": {"task": {"id": "t"}}}).encode()
    now = int(time.time())
    headers = signed_headers(keys[:1], message_id="t.2", timestamp=now, body=body)
    secrets = [shown_secret(key) for key in keys]
    assert declared["receive"](body, headers, secrets) == 204
    assert declared["receive"](body + b" ", headers, secrets) == 401
    assert declared["receive"](body, headers, secrets[1:]) == 401


def test_the_guide_s_tests_pass_and_can_fail() -> None:
    [code] = [one for one in blocks(GUIDE) if "FakeServer" in one]
    declared: dict[str, Any] = {}
    exec(code, declared)
    declared["test_an_order_is_packed"]()
    declared["test_a_busy_platform_is_waited_for"]()
    declared["pack"] = lambda client, order_id: 0
    with pytest.raises(AssertionError):
        declared["test_an_order_is_packed"]()


def test_the_package_can_be_built_and_holds_what_it_needs(tmp_path: Path) -> None:
    described = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert [one.split(">")[0] for one in described["dependencies"]] == ["httpx"]
    build = "from setuptools import build_meta; import sys; build_meta.build_sdist(sys.argv[1])"
    copied = tmp_path / "client"
    shutil.copytree(PACKAGE, copied)
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=copied,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [packed] = tmp_path.glob(f"taskmill*client-{VERSION}.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(PACKAGE)) for path in (PACKAGE / "taskmill_client").rglob("*.py")
    }
    assert sources | {"taskmill_client/py.typed"} <= names
