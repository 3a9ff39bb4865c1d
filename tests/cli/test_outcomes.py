"""The exit code says how it went."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable

import pytest

from tests.cli.shell import Shell
from tests.processes import wait_for

NOBODYS = "01890000-0000-7000-8000-000000000000"
"""The id of no task."""


def submitted(taskmill: Shell, *arguments: str) -> str:
    return taskmill.ok("submit", *arguments, "-q").out.strip()


def is_running(taskmill: Shell, task: str) -> bool:
    return bool(taskmill.ok("get", task, "--json").json["state"] == "running")


def test_a_task_that_succeeds_is_0_and_its_result_is_printed(taskmill: Shell) -> None:
    done = taskmill.run("submit", "demo.echo", "-p", "n=1", "--wait")
    assert done.code == 0
    assert done.json == {"n": 1}


def test_a_task_that_fails_is_3_and_its_error_is_told(taskmill: Shell) -> None:
    done = taskmill.run("submit", "demo.fail", "-p", "code=NO_SUCH_ROW", "--wait")
    assert done.code == 3
    assert done.out == ""
    assert "ended as failed: NO_SUCH_ROW: failed as asked" in done.err


def test_a_task_that_is_cancelled_is_4(taskmill: Shell) -> None:
    task = submitted(taskmill, "demo.slow", "-p", "seconds=60")
    assert taskmill.ok("cancel", task, "--reason", "tests").out.startswith(task)
    done = taskmill.run("wait", task)
    assert (done.code, done.out) == (4, f"{task}\tcancelled\n")


def test_a_wait_that_is_over_first_is_5_and_the_task_goes_on(taskmill: Shell) -> None:
    task = submitted(taskmill, "demo.slow", "-p", "seconds=60")
    done = taskmill.run("wait", task, "--timeout", "1s")
    assert done.code == 5
    assert task in done.err
    assert taskmill.ok("get", task, "--json").json["done"] is False
    taskmill.ok("cancel", task, "--force")


def test_a_token_that_is_refused_is_6(taskmill: Shell) -> None:
    taskmill.variables["TASKMILL_TOKEN"] = "tm_live_wrong"
    done = taskmill.run("ls")
    assert (done.code, done.out) == (6, "")
    assert done.err.startswith("error: ")
    assert "taskmill login" in done.err


def test_a_token_without_the_scope_is_6(taskmill: Shell, make_token: Callable[..., str]) -> None:
    taskmill.variables["TASKMILL_TOKEN"] = make_token("tasks:read")
    assert taskmill.run("ls").code == 0
    done = taskmill.run("submit", "demo.echo")
    assert done.code == 6
    assert "tasks:submit" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", NOBODYS),
        ("wait", NOBODYS),
        ("events", NOBODYS, "-f"),
        ("submit", "no.such.type"),
        ("queues", "pause", "nowhere"),
        ("schedules", "run", "nothing"),
        ("types", "show", "no.such.type"),
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_7(taskmill: Shell, arguments: tuple[str, ...]) -> None:
    assert taskmill.run(*arguments).code == 7


def test_what_the_state_does_not_allow_is_8(taskmill: Shell) -> None:
    task = submitted(taskmill, "demo.echo")
    taskmill.ok("wait", task)
    assert taskmill.run("cancel", task).code == 8
    assert taskmill.run("retry", task).code == 8
    other = submitted(taskmill, "demo.slow", "-p", "seconds=60")
    assert taskmill.run("result", other).code == 8
    taskmill.ok("cancel", other, "--force")


def test_the_result_of_a_task_without_one_tells_the_outcome(taskmill: Shell) -> None:
    task = submitted(taskmill, "demo.fail")
    assert taskmill.run("wait", task).code == 3
    done = taskmill.run("result", task)
    assert done.code == 3
    assert "INVALID_DATA" in done.err


@pytest.mark.parametrize("command", [("ls",), ("submit", "demo.echo", "--wait"), ("doctor",)])
def test_a_platform_that_is_not_there_is_9(stranger: Shell, command: tuple[str, ...]) -> None:
    stranger.variables |= {"TASKMILL_URL": "http://127.0.0.1:9", "TASKMILL_TOKEN": "tm_live_x"}
    done = stranger.run(*command)
    assert done.code == 9
    assert "http://127.0.0.1:9" in done.err + done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("lss",),
        ("ls", "--stauts", "failed"),
        ("ls", "--since", "yesterday"),
        ("ls", "--filter", "colour:red"),
        ("get", "not-an-id"),
        ("submit", "demo.echo", "-p", "novalue"),
        ("submit", "demo.echo", "-p", "a=1", "-p", "a=2"),
        ("submit", "demo.echo", "-f", "/nowhere.json"),
        ("submit", "demo.slow", "-p", "seconds=abc"),
        ("submit", "demo.echo", "--wait", "--follow"),
        ("cancel",),
        ("top",),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_2_and_says_why(
    taskmill: Shell, arguments: tuple[str, ...]
) -> None:
    done = taskmill.run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")


def test_no_platform_at_all_is_2_and_says_how_to_name_one(stranger: Shell) -> None:
    done = stranger.run("ls")
    assert done.code == 2
    assert "TASKMILL_URL" in done.err
    assert "taskmill login" in done.err


def test_mistyped_words_are_answered_with_the_right_ones(taskmill: Shell) -> None:
    assert "'submit'" in taskmill.run("sumbit").err
    assert "--status" in taskmill.run("ls", "--stauts", "x").err
    assert "did you mean queue?" in taskmill.run("ls", "--filter", "queu:x").err


@pytest.mark.parametrize("option", ["--wait", "--follow"])
def test_ctrl_c_ends_the_watching_with_130_and_not_the_task(taskmill: Shell, option: str) -> None:
    key = uuid.uuid4().hex
    given = ("submit", "demo.slow", "-p", "seconds=60", "--key", key)
    process = taskmill.start(*given, option)
    task = submitted(taskmill, "demo.slow", "-p", "seconds=60", "--key", key)
    wait_for(lambda: is_running(taskmill, task))
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"taskmill cancel {task}" in err
    assert "Traceback" not in err
    assert is_running(taskmill, task)
    taskmill.ok("cancel", task, "--force")


def test_a_reader_that_goes_away_is_no_fault(taskmill: Shell) -> None:
    for _ in range(3):
        submitted(taskmill, "demo.echo")
    with taskmill.start("ls", "--json", "-n", "1000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_any_ends_with_the_first_and_all_with_the_worst(taskmill: Shell) -> None:
    slow = submitted(taskmill, "demo.slow", "-p", "seconds=60")
    quick, bad = submitted(taskmill, "demo.echo"), submitted(taskmill, "demo.fail")
    done = taskmill.run("wait", slow, quick, "--any")
    assert (done.code, done.out) == (0, f"{quick}\tsuccess\n")
    done = taskmill.run("wait", quick, bad)
    assert done.code == 3
    assert sorted(done.lines) == sorted([f"{quick}\tsuccess", f"{bad}\tfailed"])
    taskmill.ok("cancel", slow, "--force")
