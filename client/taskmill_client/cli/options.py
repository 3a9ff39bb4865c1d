"""Options and arguments that several commands have, declared once."""

from __future__ import annotations

import uuid
from typing import Annotated, TypeAlias, TypeVar

import typer

from taskmill_client.cli.completing import complete_queues, complete_tasks, complete_types
from taskmill_client.cli.faults import Refusal

Ids = TypeVar("Ids", str, list[str], list[str] | None)


def check_ids(value: Ids) -> Ids:
    """Refuse what is no task's id, before anything is done.

    Raises:
        Refusal: one is none.
    """
    for one in [value] if isinstance(value, str) else value or []:
        try:
            uuid.UUID(one)
        except ValueError:
            raise Refusal(
                f"{one!r} is not the id of a task", hint="`taskmill ls` lists ids"
            ) from None
    return value


Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON: one object, or JSON Lines for several.")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids alone.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Say how many tasks are meant, and do nothing.")
]
Filter: TypeAlias = Annotated[
    str,
    typer.Option(
        "--filter",
        metavar="TERMS",
        help="Tasks that fit all of: status: state: type: queue: tag: key: schedule: parent:"
        " waiting: since: until: q: (a comma is an or; tag: may be repeated, for all of them).",
    ),
]
TaskId: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The task.", autocompletion=complete_tasks, callback=check_ids
    ),
]
TaskIds: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...", help="The tasks.", autocompletion=complete_tasks, callback=check_ids
    ),
]
SomeTaskIds: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID...]", help="The tasks.", autocompletion=complete_tasks, callback=check_ids
    ),
]
TaskType: TypeAlias = Annotated[
    str, typer.Argument(metavar="TYPE", help="The task type.", autocompletion=complete_types)
]
QueueName: TypeAlias = Annotated[
    str, typer.Argument(metavar="QUEUE", help="The queue.", autocompletion=complete_queues)
]
Timeout: TypeAlias = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Give up after, such as 30s or 5m.")
]
Pairs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--payload",
        metavar="KEY=VALUE",
        help="A field of the payload. VALUE is JSON where it is JSON (3, true, [1], "
        "'\"3\"'), else a string; dots in KEY nest.",
    ),
]
PayloadFile: TypeAlias = Annotated[
    str | None, typer.Option("-f", "--file", help="The payload as JSON; - is standard input.")
]
