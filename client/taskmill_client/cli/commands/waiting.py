"""`taskmill wait`, and what is common to commands that wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from taskmill_client import Task
from taskmill_client.cli import options
from taskmill_client.cli.displays import display_of
from taskmill_client.cli.faults import ExitCode, outcome, worst
from taskmill_client.cli.following import follow, reason_of
from taskmill_client.cli.output import complain, is_terminal, say, write, write_json
from taskmill_client.cli.reading import read_seconds
from taskmill_client.cli.session import client


def wait(
    ids: options.TaskIds,
    *,
    is_any: Annotated[bool, typer.Option("--any", help="Until one of them is done.")] = False,
    timeout: options.Timeout = "",
    is_json: options.Json = False,
    is_quiet: options.Quiet = False,
) -> None:
    """Wait until tasks are done; the exit code is the outcome.

    [bold]Examples[/bold]

      taskmill wait 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e --timeout 5m

      taskmill ls --filter tag:nightly -q | xargs taskmill wait

    0 all succeeded, 3 one failed, 4 one was cancelled or ran out of time, 5 not done within
    --timeout. Ids and outcomes are printed as they end.
    """
    seconds = read_seconds(timeout) if timeout else None
    display = display_of(is_quiet=is_quiet)
    ended: list[Task] = []
    with interruptible(ids):
        for one in follow(client(), ids, display, timeout_seconds=seconds, is_any=is_any):
            if one.task is None:
                continue
            ended.append(one.task)
            _print(one.task, is_json=is_json, is_quiet=is_quiet)
    raise typer.Exit(worst([outcome(one) for one in ended]))


def _print(task: Task, *, is_json: bool, is_quiet: bool) -> None:
    if is_json:
        write_json(task.raw, indent=False)
    elif is_quiet:
        write(task.id)
    elif not is_terminal():
        write("\t".join([task.id, str(task.status)]))


@contextmanager
def interruptible(ids: Sequence[str]) -> Iterator[None]:
    """Let Ctrl-C end the watching, and say that it does not end the work."""
    try:
        yield
    except KeyboardInterrupt:
        shown = " ".join(ids[:3])
        say(f"\nno longer watched; the work goes on. Stop it: taskmill cancel {shown}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def print_result(task: Task) -> None:
    """Print the result of a task that succeeded."""
    if str(task.status) == "success":
        write_json(task.raw["result"])


def finish(ended: Sequence[Task], *, is_quiet: bool) -> None:
    """Leave with the outcome; say why where a task did not succeed.

    Raises:
        Exit: always.
    """
    for task in ended:
        if str(task.status) != "success" and not is_quiet:
            why = reason_of(task.raw)
            complain([f"task {task.id} ended as {task.status}{': ' if why else ''}{why}"])
    raise typer.Exit(worst([outcome(one) for one in ended]))
