"""The page of the command `taskmill`, from what the command says of itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from taskmill_client.cli.app import app
from taskmill_client.cli.faults import MEANINGS

HEAD = """# The command `taskmill`

What each command takes and what it ends with; [how to use it](../how-to/use-the-command-line.md).
`--url`, `--profile`, `--no-color` and `--help` hold for every command. Generated from the command
itself by `make docs`.

## Exit codes

| code | meaning |
|---|---|
"""


def command_page() -> str:
    """Give the page."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    commands = _commands(typer.main.get_command(app), ("taskmill",))
    return HEAD + codes + "\n## Commands\n" + "".join(commands)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    if inner := getattr(command, "commands", None):
        for name, one in inner.items():
            if not one.hidden:
                yield from _commands(one, (*path, name))
        return
    yield f"\n### {' '.join(path)}\n\n{_first_paragraph(command.help or '')}\n"
    rows = "".join(_row(one) for one in command.params if not getattr(one, "hidden", False))
    if rows:
        yield f"\n| argument or option | meaning |\n|---|---|\n{rows}"


def _first_paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).replace("\b", "").partition("\n\n")[0].split())


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.name.upper()}`"
    else:
        name = ", ".join(f"`{one}`" for one in parameter.opts + parameter.secondary_opts)
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| {name} | {text} |\n"
