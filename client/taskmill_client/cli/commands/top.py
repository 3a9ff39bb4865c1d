"""`taskmill top`: the only command that takes the screen."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer
from rich.console import Group as Stack
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taskmill_client import ServerUnavailable
from taskmill_client.cli.commands.queues import queue_row
from taskmill_client.cli.faults import Refusal
from taskmill_client.cli.following import reason_of
from taskmill_client.cli.output import STYLES, age, duration, is_terminal, out, printable
from taskmill_client.cli.reading import read_seconds
from taskmill_client.cli.session import client, platform

LEAST_SECONDS: Final = 0.5
ROWS: Final = 12
ID_WIDTH: Final = 36


def top(
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="Between two looks.")
    ] = "2s",
) -> None:
    """Watch the platform on the whole screen: queues, running tasks, failures. Ctrl-C leaves.

    [bold]Examples[/bold]

      taskmill top --every 5s
    """
    if not is_terminal():
        raise Refusal("top needs a terminal", hint="`taskmill stats` and `taskmill ls` print")
    pause = max(read_seconds(every), LEAST_SECONDS)
    picture: Any = _picture()
    live = Live(picture, console=out(), screen=True, auto_refresh=False)
    try:
        live.start()  # no `with`: Ctrl-C while it starts has to give the screen back too
        while True:
            live.update(picture, refresh=True)
            time.sleep(pause)
            picture = _next(picture)
    except KeyboardInterrupt:
        raise typer.Exit from None
    finally:
        live.stop()


def _next(picture: Any) -> Any:
    """Give the next picture; the old one, marked, where the platform does not answer."""
    try:
        return _picture()
    except ServerUnavailable as error:
        told = Text(f"no answer; this is old. {printable(error.detail)}", style="red")
        shown = picture.renderables[1:] if isinstance(picture, Stack) else [picture]
        return Stack(told, *shown)


def _picture() -> Stack:
    asked = client()
    stats = asked.stats("1h")
    running = list(asked.tasks.list(status="processing", limit=ROWS))
    failed = list(asked.tasks.list(status="failed,error,timeout", limit=ROWS))
    return Stack(
        _head(stats),
        Panel(_queues(asked.queues.list()), title="Queues", title_align="left"),
        Panel(_running([one.raw for one in running]), title="Running", title_align="left"),
        Panel(_failed([one.raw for one in failed]), title="Failed", title_align="left"),
    )


def _head(stats: dict[str, Any]) -> Text:
    counts, finished = stats["totals"]["by_status"], stats["finished"]
    words: list[Any] = [(f"{platform().url}  ", "bold")]
    for name, count in counts.items():
        words.append((f"{name} {count}  ", STYLES.get(name, "")))
    rate = finished["success_rate"]
    if rate is not None:
        words.append(f"last hour: {finished['count']} done, {rate:.0%} good, ")
        words.append(f"p95 {duration(finished['run'].get('p95'))}")
    return Text.assemble(*words)


def _grid(*columns: str) -> Table:
    grid = Table(box=None, expand=True, pad_edge=False, header_style="bold")
    for column in columns:
        width = ID_WIDTH if column == "ID" else None
        grid.add_column(column, overflow="ellipsis", no_wrap=True, min_width=width)
    return grid


def _queues(queues: list[dict[str, Any]]) -> Table:
    grid = _grid("QUEUE", "STATUS", "WAITING", "RUNNING", "FAILED", "OLDEST", "WORKERS", "SLOTS")
    for queue in queues[:ROWS]:
        row = queue_row(queue)
        grid.add_row(*(one if isinstance(one, Text) else printable(one) for one in row))
    return grid


def _running(tasks: list[dict[str, Any]]) -> Table:
    grid = _grid("ID", "TYPE", "PROGRESS", "", "MESSAGE", "SINCE")
    for raw in tasks:
        bar = ProgressBar(total=100.0, completed=raw["progress"], width=20)
        message = printable(raw["progress_message"] or raw["state"])
        since = age(raw["started_at"]) or ""
        percent = f"{raw['progress']:.0f}%"
        grid.add_row(raw["id"], printable(raw["type"]), bar, percent, message, since)
    return grid


def _failed(tasks: list[dict[str, Any]]) -> Table:
    grid = _grid("ID", "TYPE", "STATUS", "ERROR", "AGO")
    for raw in tasks:
        status = Text(raw["status"], style=STYLES.get(raw["status"], ""))
        ago = age(raw["finished_at"]) or ""
        grid.add_row(raw["id"], printable(raw["type"]), status, printable(reason_of(raw)), ago)
    return grid
