"""`taskmill completion`: the script that a shell completes with."""

from __future__ import annotations

import os
from typing import Annotated, Final

import typer

from taskmill_client.cli.faults import Refusal
from taskmill_client.cli.reading import nearest

SHELLS: Final = ("bash", "zsh", "fish", "powershell", "pwsh")
VARIABLE: Final = "_TASKMILL_COMPLETE"


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh, fish or pwsh.")],
) -> None:
    """Print the completion script of a shell.

    [bold]Examples[/bold]

      eval "$(taskmill completion bash)"

      taskmill completion zsh > ~/.zfunc/_taskmill

      taskmill completion fish > ~/.config/fish/completions/taskmill.fish

    It completes commands and options, and types, queues and recent tasks of the platform, which
    it asks for once a minute.
    """
    if shell not in SHELLS:
        raise Refusal(f"{shell!r} is no known shell", hint=nearest(shell, SHELLS))
    os.environ[VARIABLE] = f"source_{shell}"  # noqa: TID251 - how the parser is asked for it
    context.find_root().command.main(args=[], prog_name="taskmill")
