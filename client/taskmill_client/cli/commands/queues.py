"""`taskmill queues`, `taskmill workers`, `taskmill stats`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from taskmill_client.cli import options
from taskmill_client.cli.grouping import Group
from taskmill_client.cli.output import (
    age,
    duration,
    facts,
    say,
    size,
    styled,
    table,
    write_json,
    write_json_lines,
)
from taskmill_client.cli.session import client

queues = Group("Show, pause and resume queues.")
workers = Group("Show workers.")

WAITING = ("queued", "dispatched", "retrying", "scheduled", "blocked")


@queues.command("ls")
def list_queues(*, is_json: options.Json = False) -> None:
    """List queues: what waits, what runs, who serves them.

    [bold]Examples[/bold]

      taskmill queues ls
    """
    found = client().queues.list()
    if is_json:
        write_json_lines(found)
        return
    columns = ("QUEUE", "STATUS", "WAITING", "RUNNING", "FAILED", "OLDEST", "WORKERS", "SLOTS")
    table(columns, (queue_row(one) for one in found))


def queue_row(queue: dict[str, Any]) -> tuple[Any, ...]:
    """Give the row of a queue."""
    counts = queue["counts"]
    state = "paused" if queue["is_paused"] else "no worker" if queue["is_unserved"] else "ok"
    failed = sum(counts.get(name, 0) for name in ("failed", "error", "timeout"))
    return (
        queue["name"],
        styled(state),
        sum(counts.get(name, 0) for name in WAITING),
        counts.get("running", 0) + counts.get("cancelling", 0),
        failed,
        duration(queue["oldest_waiting_seconds"]),
        queue["workers"],
        queue["slots"],
    )


@queues.command("pause")
def pause_queue(
    name: options.QueueName,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody sees it.")] = "",
    is_json: options.Json = False,
) -> None:
    """Start no task of a queue any more; those that run go on.

    [bold]Examples[/bold]

      taskmill queues pause reports --reason "moving the database"
    """
    _done(client().queues.pause(name, reason), is_json=is_json)


@queues.command("resume")
def resume_queue(name: options.QueueName, *, is_json: options.Json = False) -> None:
    """Start the tasks of a queue again.

    [bold]Examples[/bold]

      taskmill queues resume reports
    """
    _done(client().queues.resume(name), is_json=is_json)


def _done(queue: dict[str, Any], *, is_json: bool) -> None:
    if is_json:
        write_json(queue)
    else:
        say(f"queue {queue['name']} {'is paused' if queue['is_paused'] else 'goes on'}")


@workers.command("ls")
def list_workers(*, is_json: options.Json = False) -> None:
    """List the workers that report themselves.

    [bold]Examples[/bold]

      taskmill workers ls
    """
    found = client().workers.list()
    if is_json:
        write_json_lines(found)
        return
    table(
        ("WORKER", "STATUS", "QUEUES", "BUSY", "MEMORY", "STARTED", "SEEN"),
        (
            (
                one["name"],
                styled(one["status"]),
                ",".join(one["queues"]),
                f"{one['busy']}/{one['slots']}",
                size(one["memory_bytes"]),
                age(one["started_at"]),
                age(one["last_seen_at"]),
            )
            for one in found
        ),
    )
    if not found:
        say("no worker reports itself; nothing runs until one does")


def stats(
    *,
    window: Annotated[str, typer.Option("--window", help="Of the last 1h, 24h or 7d.")] = "",
    is_json: options.Json = False,
) -> None:
    """Show the numbers of the platform: tasks by status, times to start and to run.

    [bold]Examples[/bold]

      taskmill stats --window 1h
    """
    found = client().stats(window or None)
    if is_json:
        write_json(found)
    else:
        facts(_numbers(found))


def _numbers(found: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    finished = found["finished"]
    yield "window", found["window"]
    for status, count in found["totals"]["by_status"].items():
        yield status, str(count)
    yield "finished", str(finished["count"])
    rate = finished["success_rate"]
    yield "success rate", "" if rate is None else f"{rate:.1%}"
    for name in ("wait", "run"):
        times = finished[name]
        shown = [f"{one} {duration(times.get(one))}" for one in ("p50", "p95", "p99")]
        yield name, ", ".join(shown) if times.get("p50") is not None else ""
