"""`manage.py up` from nothing to a task's success, over stops, crashes and mistakes."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.installations import Installation
from tests.processes import wait_for


@pytest.fixture
def installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    made.remove()


def test_it_runs_a_task_keeps_everything_over_a_restart_and_leaves_no_process(
    installation: Installation,
) -> None:
    installation.start("--demo")
    installation.wait_for_line("Demo task")
    output = installation.output()
    assert "succeeded: {'steps': 10" in output
    assert "] 100 % Step 10 of 10" in output
    assert "] " in output.split("100 %")[0]
    assert "\x1b[" not in output
    first = installation.credentials()
    assert first["url"] == installation.url
    assert first["admin_user"] == "admin"
    for name in ("credentials.json", "secret_key"):
        assert stat.S_IMODE((installation.var / name).stat().st_mode) == 0o600
    key = (installation.var / "secret_key").read_text()
    done = installation.submit("demo.echo", {"n": 1}, Prefer="wait=20")
    assert done["status"] == "success"
    recorded = installation.processes()
    assert len(recorded) > 6

    assert installation.end(signal.SIGINT) == 0
    assert installation.left() == []
    assert not any(process.is_running() for process in recorded)

    installation.start()
    assert installation.credentials() == first
    assert (installation.var / "secret_key").read_text() == key
    assert installation.task(done["id"])["result"] == {"n": 1}
    check_that_all_is_well_and_a_second_one_is_refused(installation)
    (installation.var / "credentials.json").unlink()
    assert installation.end(signal.SIGTERM) == 0
    assert installation.left() == []

    installation.start()
    fresh = installation.credentials()
    assert fresh["token"] != first["token"]
    assert "made a new one" in installation.output()
    assert installation.task(done["id"])["status"] == "success"
    assert installation.end(signal.SIGTERM) == 0


def check_that_all_is_well_and_a_second_one_is_refused(installation: Installation) -> None:
    checked = _manage(installation, "doctor")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.rstrip().endswith("All well")
    second = _manage(installation, "up", "--port", "1")
    assert second.returncode == 1
    assert installation.popen is not None
    assert f"already runs in {installation.var} (process {installation.popen.pid})" in second.stderr


def _manage(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_python(), "manage.py", *arguments],
        env=installation.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_a_killed_supervisor_leaves_is_ended_and_nothing_accepted_is_lost(
    installation: Installation,
) -> None:
    installation.start()
    running = installation.submit("demo.slow", {"seconds": 4})
    wait_for(lambda: installation.task(running["id"])["state"] == "running", seconds=30)
    waiting = [installation.submit("demo.slow", {"seconds": 0.1}) for _ in range(10)]
    recorded = installation.processes()
    assert installation.end(signal.SIGKILL) == -signal.SIGKILL

    installation.start()
    assert not any(process.is_running() for process in recorded)
    for task in [running, *waiting]:
        wait_for(lambda found=task: installation.task(found["id"])["done"], seconds=60)
        assert installation.task(task["id"])["status"] == "success"
    assert installation.end(signal.SIGTERM) == 0
    assert installation.left() == []


def test_a_process_that_dies_is_started_again_and_a_second_signal_hurries(
    installation: Installation,
) -> None:
    installation.start()
    (web,) = [one for one in installation.processes() if "uvicorn" in " ".join(one.cmdline())]
    web.kill()
    installation.wait_for_line("web ended by signal 9")
    assert installation.submit("demo.echo", {"n": 2}, Prefer="wait=20")["status"] == "success"
    running = installation.submit("demo.slow", {"seconds": 600})
    wait_for(lambda: installation.task(running["id"])["state"] == "running", seconds=30)
    assert installation.popen is not None
    installation.popen.send_signal(signal.SIGINT)
    installation.wait_for_line("Stopping")
    assert installation.end(signal.SIGINT, seconds=15) in {0, 1}
    assert installation.left() == []


def test_a_taken_port_is_named_before_anything_starts(installation: Installation) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", installation.port))
        holder.listen()
        installation.launch()
        assert installation.popen is not None
        assert installation.popen.wait(60) == 1
    assert f"port {installation.port} is not free" in installation.output()
    assert f"PORT={installation.port + 1}" in installation.output()
    assert not (installation.var / "postgres").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")
def test_an_ordinary_user_runs_it_too(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="taskmill-home-"))
    account = pwd.getpwnam("nobody")
    os.chown(home, account.pw_uid, account.pw_gid)
    made = Installation(home / "var", HOME=str(home), PYTHONDONTWRITEBYTECODE="1")
    made.log = tmp_path / "up.log"
    become = _become(account)
    try:
        made.start("--demo", before=become)
        made.wait_for_line("Demo task")
        assert "succeeded" in made.output()
        assert {one.uids().real for one in made.processes()} == {account.pw_uid}
        assert made.end(signal.SIGTERM) == 0
        assert made.left() == []
    finally:
        made.remove()
        shutil.rmtree(home, ignore_errors=True)


def _python() -> list[str]:
    return [sys.executable]


def _become(account: pwd.struct_passwd) -> tuple[str, ...]:
    """Give the prefix that runs a program as the account, with the right to read a closed home.

    That right is added only where this Python lies in root's own directory.
    """
    plain = ("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups")
    capability = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    reading = (*capability, "--securebits=+no_setuid_fixup")
    tried = subprocess.run([*plain, *_python(), "-c", "import redis"], check=False, cwd="/")
    return plain if tried.returncode == 0 else (*plain, *reading)
