"""Which platform is meant: flags before the environment before profiles; tokens stay private."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.acceptance.installations import Installation
from tests.cli.shell import Shell


def file_of(shell: Shell) -> Path:
    return shell.home / ".config" / "taskmill" / "profiles.json"


@pytest.fixture
def known(stranger: Shell, platform: Installation) -> Shell:
    """The command with the platform stored as `here`."""
    token = platform.credentials()["token"]
    stranger.ok("login", "here", "--url", platform.url, stdin=token + "\n")
    return stranger


def test_a_login_is_kept_in_a_file_of_its_owner_alone_and_used(known: Shell) -> None:
    path = file_of(known)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert known.ok("workers", "ls").out
    assert list(path.parent.iterdir()) == [path]


def test_a_token_is_tried_before_it_is_stored(stranger: Shell, platform: Installation) -> None:
    done = stranger.run("--url", platform.url, "login", stdin="tm_live_wrong\n")
    assert done.code == 6
    assert not file_of(stranger).exists()
    assert stranger.ok("--url", platform.url, "login", "--no-check", stdin="tm_live_wrong\n")
    assert stranger.run("ls").code == 6


def test_a_login_asks_on_a_terminal_and_does_not_show_the_token(
    stranger: Shell, platform: Installation
) -> None:
    token = platform.credentials()["token"]
    keys = {"URL of the platform": f"{platform.url}\n", "Token": f"{token}\n"}
    shown = stranger.on_terminal("login", keys=keys)
    assert shown.code == 0
    assert token not in shown.text
    assert stranger.run("ls").code == 0


def test_tokens_are_not_listed(known: Shell, platform: Installation) -> None:
    done = known.ok("profile", "list")
    assert done.out == f"here\t{platform.url}\tin use\n"
    token = platform.credentials()["token"]
    assert token not in known.ok("profile", "list", "--json").out


def test_profiles_are_chosen_and_forgotten(known: Shell, platform: Installation) -> None:
    known.ok("profile", "add", "there", "--url", "http://127.0.0.1:9", stdin="tm_live_x\n")
    assert known.run("ls").code == 0
    assert known.run("ls", "--profile", "there").code == 9
    known.ok("profile", "use", "there")
    assert known.run("ls").code == 9
    known.variables["TASKMILL_PROFILE"] = "here"
    assert known.run("ls").code == 0
    known.ok("profile", "remove", "here")
    assert "did you mean there?" in known.run("profile", "use", "ther").err


def test_the_environment_wins_over_a_profile(known: Shell) -> None:
    known.variables |= {"TASKMILL_URL": "http://127.0.0.1:9", "TASKMILL_TOKEN": "tm_live_x"}
    assert known.run("ls").code == 9
    assert known.run("--profile", "here", "ls").code == 0


def test_a_stored_token_goes_to_no_other_platform(known: Shell) -> None:
    known.variables["TASKMILL_URL"] = "http://127.0.0.1:9"
    done = known.run("ls")
    assert done.code == 6
    assert "no token for http://127.0.0.1:9" in done.err


def test_a_file_that_others_may_read_is_told_of_and_a_damaged_one_refused(known: Shell) -> None:
    file_of(known).chmod(0o644)
    assert "others may read" in known.ok("ls").err
    file_of(known).write_text(json.dumps({"profiles": 1}))
    done = known.run("ls")
    assert done.code == 1
    assert "damaged" in done.err
