"""How tasks that are watched are shown: bars on a terminal, else a line per change of state."""

from __future__ import annotations

from typing import Self

from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from taskmill_client import Event
from taskmill_client.cli.following import Display, NoDisplay, Watched
from taskmill_client.cli.output import STYLES, err, printable, say

WHOLE = 100.0


def display_of(*, is_quiet: bool) -> Display:
    """Give the display that fits where messages go."""
    if is_quiet:
        return NoDisplay()
    return Bars() if err().is_terminal else Lines()


class Lines:
    """A line for each change of state."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, watched: Watched, event: Event | None) -> None:
        """Print a line where the state is a new one."""
        if self._states.get(watched.id) == watched.state:
            return
        self._states[watched.id] = watched.state
        words = [watched.id, watched.type, watched.state]
        if watched.attempt > 1:
            words.append(f"attempt {watched.attempt}")
        words.append(watched.message if event is None else watched.waiting)
        say(" ".join(word for word in words if word))


class Bars:
    """A bar for each task."""

    def __init__(self) -> None:
        self._rows: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            _Message(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=err(),
            expand=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, watched: Watched, event: Event | None) -> None:
        """Move the task's bar."""
        row = self._rows.get(watched.id)
        if row is None:
            row = self._progress.add_task("", total=None, count="", text="", style="")
            self._rows[watched.id] = row
        is_begun = watched.progress > 0 or event is None
        self._progress.update(
            row,
            description=f"{printable(watched.type)} {watched.id[-6:]}",
            total=WHOLE if is_begun else None,
            completed=watched.progress,
            count=_count(watched),
            text=_text(watched),
            style=STYLES.get(str(watched.task.status) if watched.task else "", ""),
        )
        if event is None:
            self._progress.stop_task(row)


class _Message(TextColumn):
    """The message, in the colour of the outcome."""

    def __init__(self, *, table_column: Column) -> None:
        super().__init__("", table_column=table_column)

    def render(self, task: object) -> Text:
        """Give the text of a row."""
        fields = getattr(task, "fields", {})
        return Text(fields.get("text", ""), style=fields.get("style", ""))


def _count(watched: Watched) -> str:
    current, total = watched.detail.get("current"), watched.detail.get("total")
    if current is None or total is None:
        return ""
    return printable(f"{current}/{total} {watched.detail.get('unit') or ''}".rstrip())


def _text(watched: Watched) -> str:
    if watched.task is not None:
        return printable(f"{watched.state} {watched.message}".rstrip())
    if watched.state in {"running", "cancelling"} and watched.message:
        return printable(watched.message)
    attempt = f" (attempt {watched.attempt})" if watched.attempt > 1 else ""
    return printable(f"{watched.state}{attempt} {watched.waiting}".rstrip())
