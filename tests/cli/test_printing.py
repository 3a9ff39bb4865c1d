"""Data on standard output, messages on standard error; bars on a terminal, lines where piped."""

from __future__ import annotations

import json
import uuid

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def tag() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def test_submit_prints_the_id_and_says_what_to_do_next(taskmill: Shell) -> None:
    done = taskmill.ok("submit", "demo.echo", "--priority", "3", "--queue", "default")
    assert uuid.UUID(done.out.strip())
    assert f"taskmill wait {done.out.strip()}" in done.err
    assert taskmill.ok("submit", "demo.echo", "-q").err == ""


def test_payloads_are_typed_nested_and_read_from_files(taskmill: Shell) -> None:
    pairs = ["n=1", "x=1.5", "on=true", "no=null", "text=a b", 'quoted="3"', "list=[1, 2]"]
    given = [part for pair in [*pairs, "a.b.c=deep", "date=NaN"] for part in ("-p", pair)]
    echoed = taskmill.ok("submit", "demo.echo", *given, "--wait").json
    assert echoed == {
        "n": 1,
        "x": 1.5,
        "on": True,
        "no": None,
        "text": "a b",
        "quoted": "3",
        "list": [1, 2],
        "a": {"b": {"c": "deep"}},
        "date": "NaN",
    }
    body = json.dumps({"big": 2**60, "keep": "ü"})
    done = taskmill.ok("submit", "demo.echo", "-f", "-", "-p", "more=1", "--wait", stdin=body)
    assert done.json == {"big": 2**60, "keep": "ü", "more": 1}


def test_options_of_a_submission_reach_the_task(taskmill: Shell, tag: str) -> None:
    given = ["--delay", "1h", "--tag", tag, "--tag", "b", "--meta", "tenant=acme"]
    task = taskmill.ok("submit", "demo.echo", *given, "--key", tag, "--json").json
    assert task["state"] == "scheduled"
    assert task["tags"] == [tag, "b"]
    assert task["metadata"] == {"tenant": "acme"}
    again = taskmill.ok("submit", "demo.echo", *given, "--key", tag, "-q").out.strip()
    assert again == task["id"]
    assert "not before" in taskmill.ok("get", task["id"]).out
    taskmill.ok("cancel", task["id"])


def test_a_list_is_lines_without_a_head_where_it_is_piped_and_json_lines_on_demand(
    taskmill: Shell, tag: str
) -> None:
    ids = [taskmill.ok("submit", "demo.echo", "--tag", tag, "-q").out.strip() for _ in range(3)]
    taskmill.ok("wait", *ids)
    rows = [line.split("\t") for line in taskmill.ok("ls", "--tag", tag).lines]
    assert [row[:4] for row in rows] == [
        [one, "success", "demo.echo", "default"] for one in reversed(ids)
    ]
    assert [one["id"] for one in taskmill.ok("ls", "--tag", tag, "--json").json_lines] == [
        row[0] for row in rows
    ]
    assert taskmill.ok("ls", "--filter", f"tag:{tag} since:1h", "-n", "2", "-q").lines == [
        row[0] for row in rows[:2]
    ]
    assert taskmill.ok("ls", "--tag", tag, "-s", "failed").out == ""


def test_a_wait_that_is_piped_is_a_line_for_each_change_on_standard_error(
    taskmill: Shell,
) -> None:
    done = taskmill.ok("submit", "example", "-p", "steps=3", "-p", "delay=0.2", "--wait")
    assert done.json == {"steps": 3, "message": "3 steps done"}
    states = [line.split()[2] for line in done.err.splitlines()]
    assert states == ["queued", "dispatched", "running", "success"]
    assert "\x1b" not in done.err + done.out


def test_follow_prints_every_event_and_json_lines_on_demand(taskmill: Shell) -> None:
    done = taskmill.ok("submit", "example", "-p", "steps=2", "-p", "delay=0.1", "--follow")
    kinds = [line.split()[1] for line in done.lines]
    assert kinds[0] == "created"
    assert kinds[-1] == "succeeded"
    assert "Step 2 of 2" in done.out
    task = done.err.split()[1]
    events = taskmill.ok("events", "-f", task, "--json").json_lines
    assert [one["type"].removeprefix("task.") for one in events] == kinds
    assert taskmill.ok("events", task).out == done.out


def test_logs_are_printed_and_followed_to_the_end(taskmill: Shell) -> None:
    task = taskmill.ok("submit", "example", "-p", "steps=2", "-p", "delay=0.3", "-q").out.strip()
    followed = taskmill.ok("logs", "-f", task)
    assert [line.split(maxsplit=2)[2] for line in followed.lines] == [
        "step done step=1",
        "step done step=2",
    ]
    assert taskmill.ok("logs", task).out == followed.out
    assert taskmill.ok("logs", task, "--level", "warning").out == ""
    assert [one["fields"] for one in taskmill.ok("logs", task, "--json").json_lines] == [
        {"step": 1},
        {"step": 2},
    ]


def test_a_result_goes_to_a_file_or_comes_as_it_is(taskmill: Shell) -> None:
    task = taskmill.ok("submit", "demo.echo", "-p", "n=1", "-q").out.strip()
    taskmill.ok("wait", task)
    assert taskmill.ok("result", task, "-o", "result.json").out == ""
    assert json.loads((taskmill.home / "result.json").read_text()) == {"n": 1}
    text = taskmill.ok("submit", "demo.echo", "-f", "-", "-q", stdin='"a b"').out.strip()
    taskmill.ok("wait", text)
    assert taskmill.ok("result", text).out == '"a b"\n'
    assert taskmill.ok("result", text, "--raw").out == "a b\n"


def test_several_tasks_are_several_bars_on_a_terminal(taskmill: Shell) -> None:
    ids = [
        taskmill.ok("submit", "example", "-p", "steps=4", "-p", f"delay={delay}", "-q").out.strip()
        for delay in (0.2, 0.4)
    ]
    terminal = taskmill.on_terminal("wait", *ids)
    assert terminal.code == 0
    for one in ids:
        assert one[-6:] in terminal.text
    assert "━" in terminal.text
    assert "100%" in terminal.text
    assert "4/4" in terminal.text
    assert "Step 3 of 4" in terminal.text


def test_a_terminal_gets_a_table_in_colour_unless_no_colour_is_wanted(taskmill: Shell) -> None:
    taskmill.ok("submit", "demo.echo", "--wait")
    shown = taskmill.on_terminal("ls", "-n", "1")
    assert "STATUS" in shown.text
    assert "\x1b[32m" in shown.text
    assert "\x1b[32m" not in taskmill.on_terminal("--no-color", "ls", "-n", "1").text
    taskmill.variables["NO_COLOR"] = "1"
    plain = taskmill.on_terminal("ls", "-n", "1").text
    assert "STATUS" in plain
    assert "\x1b[32m" not in plain


def test_what_a_task_says_does_not_steer_the_terminal(taskmill: Shell) -> None:
    given = ("-p", 'message="red \\u001b[31m bell \\u0007"')
    done = taskmill.run("submit", "demo.fail", *given, "--wait")
    assert done.code == 3
    shown = taskmill.on_terminal("ls", "-s", "failed", "-n", "1")
    assert "bell" in shown.text
    assert "\x1b[31m bell" not in shown.text
    assert "\x07" not in shown.text + done.err


def test_top_takes_the_screen_and_gives_it_back(taskmill: Shell) -> None:
    taskmill.ok("submit", "demo.fail", "-p", "code=SEEN_IN_TOP", "-q")
    shown = taskmill.on_terminal("top", "--every", "0.5s", keys={"SEEN_IN_TOP": "\x03"})
    assert shown.code == 0
    assert "\x1b[?1049h" in shown.text
    assert shown.text.rindex("\x1b[?1049l") > shown.text.index("Queues")


@pytest.mark.parametrize("command", [[], ["submit"], ["ls"], ["retry"], ["webhooks", "listen"]])
def test_help_shows_examples_before_options(stranger: Shell, command: list[str]) -> None:
    shown = stranger.ok(*command, "--help").out
    assert shown.index("Examples") < shown.index("Options")
    assert f"taskmill {' '.join(command)}".rstrip() in shown
