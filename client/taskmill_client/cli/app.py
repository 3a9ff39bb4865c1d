"""The tree of commands and the options that stand before them."""

from __future__ import annotations

from typing import Annotated

import typer

from taskmill_client import __version__
from taskmill_client.cli.commands import changing, histories, listing, submitting, waiting
from taskmill_client.cli.commands.doctoring import doctor
from taskmill_client.cli.commands.profiling import login, profile
from taskmill_client.cli.commands.queues import queues, stats, workers
from taskmill_client.cli.commands.raw import api
from taskmill_client.cli.commands.schedules import schedules, types
from taskmill_client.cli.commands.shells import completion
from taskmill_client.cli.commands.top import top
from taskmill_client.cli.commands.webhooks import webhooks
from taskmill_client.cli.grouping import Group
from taskmill_client.cli.output import PLAIN, write
from taskmill_client.cli.session import CHOICE

ABOUT = """Submit, watch and steer tasks of a Taskmill platform.

[bold]Examples[/bold]

  taskmill submit example -p steps=5 --wait

  taskmill ls -s failed --since 2h

  taskmill retry --filter 'status:failed queue:reports' --dry-run

The platform: TASKMILL_URL and TASKMILL_TOKEN, or a profile (`taskmill login`).
Data goes to standard output, messages to standard error; every list has --json.
"""

app = Group(ABOUT)


def _version(*, is_wanted: bool) -> None:
    if is_wanted:
        write(f"taskmill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    url: Annotated[str, typer.Option("--url", help="The platform; else TASKMILL_URL.")] = "",
    profile: Annotated[
        str, typer.Option("--profile", help="A stored platform; else TASKMILL_PROFILE.")
    ] = "",
    is_plain: Annotated[
        bool, typer.Option("--no-color", help="No colours; so does NO_COLOR.")
    ] = False,
    _is_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=lambda value: _version(is_wanted=value)
        ),
    ] = False,
) -> None:
    """Take the options that hold for every command."""
    CHOICE.url, CHOICE.profile = url, profile
    PLAIN["no_color"] = is_plain


_TASKS = "Tasks"
for command in (
    submitting.submit,
    listing.ls,
    listing.get,
    waiting.wait,
    histories.events,
    histories.logs,
    histories.result,
    changing.cancel,
    changing.retry,
    changing.rerun,
):
    app.command(rich_help_panel=_TASKS)(command)

_PLATFORM = "Platform"
app.add_typer(queues, name="queues", rich_help_panel=_PLATFORM)
app.add_typer(workers, name="workers", rich_help_panel=_PLATFORM)
app.add_typer(schedules, name="schedules", rich_help_panel=_PLATFORM)
app.add_typer(types, name="types", rich_help_panel=_PLATFORM)
app.command(rich_help_panel=_PLATFORM)(stats)
app.command(rich_help_panel=_PLATFORM)(top)
app.command(rich_help_panel=_PLATFORM)(api)

_WAY = "The way to it"
app.command(rich_help_panel=_WAY)(doctor)
app.command(rich_help_panel=_WAY)(login)
app.add_typer(profile, name="profile", rich_help_panel=_WAY)
app.add_typer(webhooks, name="webhooks", rich_help_panel=_WAY)
app.command(rich_help_panel=_WAY)(completion)
