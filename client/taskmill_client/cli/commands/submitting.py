"""`taskmill submit`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from taskmill_client import Task
from taskmill_client.cli import options
from taskmill_client.cli.commands.histories import print_event
from taskmill_client.cli.commands.waiting import finish, interruptible, print_result
from taskmill_client.cli.completing import complete_queues
from taskmill_client.cli.displays import display_of
from taskmill_client.cli.faults import Refusal, outcome
from taskmill_client.cli.following import follow
from taskmill_client.cli.output import say, write, write_json
from taskmill_client.cli.reading import read_instant, read_payload, read_seconds
from taskmill_client.cli.session import client

Queue = Annotated[
    str | None, typer.Option("--queue", help="The queue.", autocompletion=complete_queues)
]
Priority = Annotated[int | None, typer.Option("--priority", help="Larger goes first.")]
Delay = Annotated[
    str | None, typer.Option("--delay", metavar="DURATION", help="Not before, such as 30s, 2h.")
]
RunAt = Annotated[
    str | None, typer.Option("--at", metavar="INSTANT", help="Not before, in ISO 8601.")
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; repeatable.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata.")
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Idempotency key: the same one twice is one task."),
]
MaxRetry = Annotated[int | None, typer.Option("--max-retry", help="Retries at most.")]
Waits = Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end and print the result.")]
Follows = Annotated[bool, typer.Option("--follow", help="Print every event until the end.")]


def submit(
    task_type: options.TaskType,
    *,
    pairs: options.Pairs = None,
    file: options.PayloadFile = None,
    queue: Queue = None,
    priority: Priority = None,
    delay: Delay = None,
    run_at: RunAt = None,
    tags: Tags = None,
    metadata: Metadata = None,
    key: Key = None,
    max_retry: MaxRetry = None,
    is_waiting: Waits = False,
    is_followed: Follows = False,
    timeout: options.Timeout = "",
    is_json: options.Json = False,
    is_quiet: options.Quiet = False,
) -> None:
    """Submit a task and print its id.

    [bold]Examples[/bold]

      taskmill submit reports.generate -p report_id=42 -p format=pdf

      taskmill submit example -p steps=5 --wait

      echo '{"report_id": 42}' | taskmill submit reports.generate -f - --delay 10m

      taskmill submit orders.process -p order_id=7 --key order-7 --quiet

    With --wait or --follow the exit code tells the outcome: 0 success, 3 failed, 4 cancelled or
    out of time, 5 not done within --timeout.
    """
    _refuse_both("--wait", is_waiting, "--follow", is_followed)
    _refuse_both("--delay", delay, "--at", run_at)
    if timeout and not (is_waiting or is_followed):
        raise Refusal("--timeout is for --wait and --follow")
    timeout_seconds = read_seconds(timeout) if timeout else None
    payload = read_payload(pairs or [], file)
    fields: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "max_retry": max_retry,
        "tags": tags or None,
        "metadata": read_payload(metadata or [], None),
        "delay": read_seconds(delay) if delay else None,
        "run_at": read_instant(run_at) if run_at else None,
        "idempotency_key": key,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    task = client().tasks.submit(task_type, payload, **known)
    if is_followed:
        _follow(task, timeout_seconds, is_json=is_json)
    elif is_waiting:
        _wait(task, timeout_seconds, is_json=is_json, is_quiet=is_quiet)
    else:
        _print(task, is_json=is_json, is_quiet=is_quiet)


def _refuse_both(one: str, is_one: object, other: str, is_other: object) -> None:
    if is_one and is_other:
        raise Refusal(f"{one} and {other} exclude each other")


def _print(task: Task, *, is_json: bool, is_quiet: bool) -> None:
    if is_json:
        write_json(task.raw)
        return
    write(task.id)
    if not is_quiet:
        say(f"{task.type} is {task.state} in {task.queue}; watch it: taskmill wait {task.id}")


def _wait(task: Task, timeout_seconds: float | None, *, is_json: bool, is_quiet: bool) -> None:
    if is_quiet:
        write(task.id)
    with interruptible([task.id]):
        found = follow(
            client(), [task.id], display_of(is_quiet=is_quiet), timeout_seconds=timeout_seconds
        )
        ended = [one.task for one in found if one.task is not None]
    for one in ended:
        if is_json:
            write_json(one.raw)
        elif not is_quiet:
            print_result(one)
    finish(ended, is_quiet=is_quiet or is_json)


def _follow(task: Task, timeout_seconds: float | None, *, is_json: bool) -> None:
    say(f"task {task.id}")
    with interruptible([task.id]):
        shown = EventLines(is_json=is_json)
        found = follow(client(), [task.id], shown, timeout_seconds=timeout_seconds)
        ended = [one.task for one in found if one.task is not None]
    raise typer.Exit(outcome(ended[0]))


class EventLines:
    """Shows each event as a line of standard output."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json

    def __enter__(self) -> EventLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, _watched: Any, event: Any) -> None:
        """Print the event."""
        if event is not None:
            print_event(event.raw, is_json=self._is_json)
