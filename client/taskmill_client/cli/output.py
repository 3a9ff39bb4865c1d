"""What is printed where: data on standard output, messages on standard error.

Tables and colours on a terminal; lines of tab-separated values without a head where the output is
piped; one object or JSON Lines for `--json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskmill_client.cli.faults import ExitCode, ReaderGone, Refusal

STYLES: Final = {
    "pending": "yellow",
    "processing": "cyan",
    "success": "green",
    "failed": "red",
    "error": "red",
    "timeout": "magenta",
    "cancelled": "bright_black",
    "online": "green",
    "lost": "red",
    "active": "green",
    "paused": "yellow",
    "ok": "green",
    "warning": "yellow",
    "fault": "red",
}
"""Colour of a word that says how something is; the word itself is always printed too."""

PLAIN: Final = {"no_color": False}


@cache
def out() -> Console:
    """Give standard output."""
    return _console(is_error=False)


@cache
def err() -> Console:
    """Give standard error."""
    return _console(is_error=True)


def _console(*, is_error: bool) -> Console:
    return Console(
        stderr=is_error,
        no_color=PLAIN["no_color"] or None,
        highlight=False,
        soft_wrap=True,
        emoji=False,
        markup=False,
    )


def is_terminal() -> bool:
    """Say whether standard output is a terminal."""
    return out().is_terminal


def write(text: str) -> None:
    """Print a line of data as it is.

    Raises:
        ReaderGone: nobody reads it.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error


def write_json(value: Any, *, indent: bool | None = None) -> None:
    """Print JSON: indented on a terminal, else in one line."""
    wide = is_terminal() if indent is None else indent
    write(json.dumps(value, ensure_ascii=False, indent=2 if wide else None))


def write_json_lines(values: Iterable[Any]) -> None:
    """Print JSON Lines."""
    for value in values:
        write_json(value, indent=False)


def say(text: str) -> None:
    """Print a message."""
    err().print(Text(printable(text)))


def warn(text: str) -> None:
    """Print a warning."""
    err().print(Text.assemble(("warning: ", "yellow"), printable(text)))


def complain(lines: Sequence[str], hint: str = "") -> None:
    """Print what went wrong, and what to do."""
    first, *others = lines
    err().print(Text.assemble(("error: ", "bold red"), printable(first)))
    for line in others:
        err().print(Text(printable(line)))
    if hint:
        err().print(Text.assemble(("hint: ", "cyan"), printable(hint)))


def printable(text: Any) -> str:
    """Give a text without control characters: what a task says does not steer the terminal."""
    return "".join(one if one.isprintable() else " " for one in str(text))


def styled(word: str) -> Text:
    """Give a word in its colour."""
    return Text(printable(word), style=STYLES.get(word, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows: a table on a terminal, else tab-separated values without a head.

    Values may be `Text`; None prints as nothing (`-` on a terminal).
    """
    if not is_terminal():
        for row in rows:
            write("\t".join(printable("" if one is None else one) for one in row))
        return
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column == "ID")
    count = 0
    for row in rows:
        grid.add_row(*(_cell(one) for one in row))
        count += 1
    if count:
        out().print(grid, soft_wrap=False)


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    return Text("-" if value is None or value == "" else printable(value))


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one a line; those that are nothing are left out."""
    shown = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = value if isinstance(value, Text) else Text(str(value))
        if is_terminal():
            out().print(Text.assemble((name.ljust(width + 2), "bold"), text))
        else:
            write(f"{name}\t{printable(text.plain)}")


def instant(text: str | None) -> datetime | None:
    """Read an instant of the API."""
    return datetime.fromisoformat(text) if text else None


def age(text: str | None) -> str | None:
    """Give how long ago an instant was (`in 5m` for one to come); whole where piped."""
    at = instant(text)
    if at is None or not is_terminal():
        return text
    seconds = (datetime.now(UTC) - at).total_seconds()  # noqa: TID251 - what the reader's clock says
    return duration(seconds) if seconds >= 0 else f"in {duration(-seconds)}"


def duration(seconds: float | None) -> str:
    """Give seconds in a form that is quickly read: `850ms`, `12s`, `3m12s`, `2h05m`, `3d`."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 10:  # noqa: PLR2004 - one decimal while it says something
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def size(count: int | None) -> str:
    """Give bytes in a form that is quickly read."""
    value = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - the unit's own size
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def agree(question: str, *, is_agreed: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        Refusal: there is nobody to ask, or the answer is no.
    """
    if is_agreed:
        return
    if not (sys.stdin.isatty() and err().is_terminal):
        raise Refusal("this needs a yes, and there is no terminal to ask on", hint="add --yes")
    if not typer.confirm(question, err=True):
        raise Refusal("nothing was done", code=ExitCode.OTHER)
