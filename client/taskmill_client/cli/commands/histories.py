"""`taskmill events`, `taskmill logs`, `taskmill result`: what a task left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer
from rich.text import Text

from taskmill_client import Conflict
from taskmill_client.cli import options
from taskmill_client.cli.commands.waiting import interruptible
from taskmill_client.cli.faults import ExitCode, Refusal, outcome, outcome_of_status
from taskmill_client.cli.following import reason_of
from taskmill_client.cli.output import STYLES, is_terminal, out, printable, write, write_json
from taskmill_client.cli.session import client

PAGE: Final = 1000
LOOK_SECONDS: Final = 1.0
_LEVELS: Final = {"warning": "yellow", "error": "red", "critical": "bold red", "debug": "dim"}
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task is done.")]


def path_of(task_id: str, what: str) -> str:
    """Give the path of something below a task."""
    return f"/tasks/{quote(task_id, safe='')}/{what}"


def events(
    task_id: options.TaskId, *, is_followed: Follow = False, is_json: options.Json = False
) -> None:
    """Print the history of a task: who asked, when it ran, how it went on.

    [bold]Examples[/bold]

      taskmill events 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e

      taskmill events -f 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e --json | jq .data.progress

    With -f it goes on until the task is done, and the exit code is the outcome.
    """
    if not is_followed:
        for raw in _pages(path_of(task_id, "events")):
            print_event(raw, is_json=is_json)
        return
    with interruptible([task_id]):
        for event in client().tasks.events(task_id):
            print_event(event.raw, is_json=is_json)
    raise typer.Exit(outcome(client().tasks.get(task_id)))


def _pages(path: str, after: Any = None, **query: Any) -> Iterator[dict[str, Any]]:
    while True:
        known = {name: one for name, one in {**query, "after": after}.items() if one is not None}
        page = client().request("GET", path, params={**known, "limit": PAGE})
        yield from page["results"]
        after = page["after"]
        if len(page["results"]) < PAGE:
            return


def print_event(raw: dict[str, Any], *, is_json: bool) -> None:
    """Print an event: a line, or JSON."""
    if is_json:
        write_json(raw, indent=False)
        return
    data = raw.get("data") or {}
    kind, status = raw["type"].removeprefix("task."), str(data.get("status") or "")
    words = [raw["time"], kind]
    if data.get("attempt"):
        words.append(f"attempt={data['attempt']}")
    if data.get("progress") is not None and kind == "progress":
        words.append(f"{data['progress']:.0f}%")
    if data.get("actor"):
        words.append(f"by={data['actor']}")
    words += [str(data.get("message") or data.get("reason") or ""), reason_of(data)]
    line = printable(" ".join(word for word in words if word))
    if is_terminal():
        out().print(Text(line, style=STYLES.get(status, "") if kind != "progress" else ""))
    else:
        write(line)


def logs(
    task_id: options.TaskId,
    *,
    is_followed: Follow = False,
    level: Annotated[
        str, typer.Option("--level", help="At least: debug, info, warning, error, critical.")
    ] = "",
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Of this run.")] = None,
    is_json: options.Json = False,
) -> None:
    """Print what a task logged.

    [bold]Examples[/bold]

      taskmill logs 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e --level warning

      taskmill logs -f 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e

    With -f it goes on until the task is done, and the exit code is the outcome.
    """
    query = {"level": level or None, "attempt": attempt}
    if not is_followed:
        _print_lines(task_id, None, query, is_json=is_json)
        return
    after: str | None = None
    with interruptible([task_id]):
        while True:
            task = client().tasks.get(task_id)
            after = _print_lines(task_id, after, query, is_json=is_json)
            if task.done:
                break
            time.sleep(LOOK_SECONDS)
    raise typer.Exit(outcome(task))


def _print_lines(
    task_id: str, after: str | None, query: dict[str, Any], *, is_json: bool
) -> str | None:
    for line in _pages(path_of(task_id, "logs"), after, **query):
        after = line["id"]
        if is_json:
            write_json(line, indent=False)
            continue
        fields = " ".join(f"{name}={value}" for name, value in (line["fields"] or {}).items())
        text = f"{line['at']} {line['level']:<8} {line['message']} {fields}".rstrip()
        if is_terminal():
            out().print(Text(printable(text), style=_LEVELS.get(line["level"], "")))
        else:
            write(printable(text))
    return after


def result(
    task_id: options.TaskId,
    *,
    file: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Write it to a file.")
    ] = "",
    is_raw: Annotated[
        bool, typer.Option("--raw", help="Print a string without its quotation marks.")
    ] = False,
) -> None:
    """Print the result of a task as JSON.

    [bold]Examples[/bold]

      taskmill result 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e | jq .url

    A task that is not done yet is 8; one that failed 3, one that was stopped 4.
    """
    try:
        value = client().request("GET", path_of(task_id, "result"))
    except Conflict as error:
        code = outcome_of_status(str(error.problem.get("state", "")))
        if code is ExitCode.OTHER:
            raise
        why = reason_of(error.problem)
        raise Refusal(f"{error.detail}{': ' if why else ''}{why}", code=code) from error
    if file:
        _save(file, value)
    elif is_raw and isinstance(value, str):
        write(value)
    else:
        write_json(value)


def _save(file: str, value: Any) -> None:
    import json

    try:
        Path(file).write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}"
        raise Refusal(message, code=ExitCode.OTHER) from error
