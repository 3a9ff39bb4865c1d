"""`taskmill ls` and `taskmill get`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from taskmill_client import Task
from taskmill_client.cli import options
from taskmill_client.cli.completing import complete_queues, complete_types
from taskmill_client.cli.following import reason_of, waiting_for
from taskmill_client.cli.output import (
    age,
    duration,
    facts,
    instant,
    is_terminal,
    say,
    styled,
    table,
    write,
    write_json,
    write_json_lines,
)
from taskmill_client.cli.reading import read_filter, read_instant
from taskmill_client.cli.session import client

COLUMNS = ("ID", "STATUS", "TYPE", "QUEUE", "PROGRESS", "ATTEMPT", "CREATED", "NOTE")


def ls(
    *,
    status: Annotated[
        str,
        typer.Option(
            "--status",
            "-s",
            help="pending, processing, success, failed, error, cancelled, timeout.",
        ),
    ] = "",
    task_type: Annotated[
        str, typer.Option("--type", help="Of this type.", autocompletion=complete_types)
    ] = "",
    queue: Annotated[
        str, typer.Option("--queue", help="In this queue.", autocompletion=complete_queues)
    ] = "",
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="With this tag; repeatable, for all of them.")
    ] = None,
    since: Annotated[
        str, typer.Option("--since", help="Submitted since: 2h, 3d, or an instant.")
    ] = "",
    terms: options.Filter = "",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Tasks at most.")] = 50,
    is_json: options.Json = False,
    is_quiet: options.Quiet = False,
) -> None:
    """List tasks, the newest first.

    [bold]Examples[/bold]

      taskmill ls

      taskmill ls -s failed,error --since 2h

      taskmill ls --filter 'queue:reports tag:vip' -n 500 --json

    Where the output is piped, lines are tab-separated and have no head.
    """
    wanted = read_filter(terms)
    given: dict[str, Any] = {"status": status, "type": task_type, "queue": queue}
    given["tag"] = [*wanted.get("tag", []), *(tags or [])]
    wanted |= {name: value for name, value in given.items() if value}
    if since:
        wanted["created_after"] = read_instant(since)
    print_tasks(client().tasks.list(**wanted, limit=number), is_json=is_json, is_quiet=is_quiet)


def print_tasks(tasks: Iterable[Task], *, is_json: bool, is_quiet: bool) -> None:
    """Print tasks as they come: JSON Lines, ids, or a table."""
    if is_json:
        write_json_lines(task.raw for task in tasks)
    elif is_quiet:
        for task in tasks:
            write(task.id)
    else:
        rows = (_row(task.raw) for task in tasks)
        table(COLUMNS, _counted(rows) if is_terminal() else rows)


def _counted(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007 - it is the number of rows
        yield row
    if not count:
        say("no tasks fit; `taskmill submit example --wait` makes one")


def _row(raw: dict[str, Any]) -> tuple[Any, ...]:
    note = reason_of(raw) or (raw["progress_message"] if raw["status"] == "processing" else "")
    return (
        raw["id"],
        styled(raw["status"]),
        raw["type"],
        raw["queue"],
        f"{raw['progress']:.0f}%",
        f"{raw['attempt']}/{raw['max_retry'] + 1}",
        age(raw["created_at"]),
        note or waiting_for(raw),
    )


def get(ids: options.TaskIds, *, is_json: options.Json = False) -> None:
    """Show tasks: state, progress, why one waits, how it ended.

    [bold]Examples[/bold]

      taskmill get 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e

      taskmill get 0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e --json | jq .result
    """
    for number, one in enumerate(ids):
        raw = client().tasks.get(one).raw
        if is_json:
            write_json(raw, indent=None if len(ids) == 1 else False)
            continue
        if number:
            write("")
        facts(_facts(raw))


def _facts(raw: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    yield "id", raw["id"]
    yield "type", raw["type"]
    yield "status", styled(raw["status"])
    yield "state", raw["state"]
    yield "queue", f"{raw['queue']} (priority {raw['priority']})"
    yield "progress", f"{raw['progress']:.0f}% {raw['progress_message']}".rstrip()
    yield "attempt", f"{raw['attempt']} of {raw['max_retry'] + 1}"
    for reason in raw.get("waiting") or []:
        others = ", ".join(f"{name} {value}" for name, value in reason.items() if name != "reason")
        why = str(reason.get("reason", "")).replace("_", " ")
        yield "waiting", f"{why} ({others})" if others else why
    yield "not before", _when(raw.get("run_at"))
    for name in ("created_at", "started_at", "finished_at", "cancel_requested_at"):
        yield name.removesuffix("_at").replace("_", " "), _when(raw.get(name))
    started, finished = instant(raw["started_at"]), instant(raw["finished_at"])
    if started and finished:
        yield "took", duration((finished - started).total_seconds())
    for name in ("worker", "schedule", "parent", "retry_of", "concurrency_key"):
        yield name.replace("_", " "), raw.get(name)
    yield "tags", ", ".join(raw["tags"])
    for name in ("metadata", "payload", "result"):
        yield name, _json(raw.get(name))
    yield "error", reason_of(raw)


def _when(text: str | None) -> str:
    ago = age(text)
    if not text or ago == text:
        return text or ""
    return f"{text} ({ago if str(ago).startswith('in ') else f'{ago} ago'})"


def _json(value: Any) -> str:
    import json

    return "" if value in (None, {}, []) else json.dumps(value, ensure_ascii=False)
