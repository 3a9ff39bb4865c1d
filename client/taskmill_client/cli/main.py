"""Runs the command line and gives its exit code; the one place where errors become messages."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from taskmill_client import TaskmillError
from taskmill_client.cli.app import app
from taskmill_client.cli.faults import ExitCode, ReaderGone, Refusal, code_of, hint_of, lines_of
from taskmill_client.cli.output import complain

GLOBAL = ("--url", "--profile", "--no-color")


def main() -> None:
    """Run `taskmill` with the arguments of the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; gives the exit code."""
    try:
        code = app(hoisted(arguments), prog_name="taskmill", standalone_mode=False)
    except TyperException as error:
        if error.format_message():
            complain([error.format_message()], "`taskmill --help` shows how")
        return error.exit_code
    except Refusal as error:
        complain([str(error)], error.hint)
        return error.code
    except TaskmillError as error:
        complain(lines_of(error), hint_of(error))
        return code_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except ReaderGone:
        _forget_output()
        return ExitCode.OK
    except OSError as error:
        complain([f"{error.filename or 'the system'}: {error.strerror or error}"])
        return ExitCode.OTHER
    return code if isinstance(code, int) else ExitCode.OK


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Put the options that hold for every command in front, wherever they were typed."""
    front: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for one in rest:
        name, sign, _ = one.partition("=")
        if one == "--":
            others += [one, *rest]
        elif name not in GLOBAL:
            others.append(one)
        else:
            front.append(one)
            if not sign and name != "--no-color":
                front += [value for value in [next(rest, None)] if value is not None]
    return [*front, *others]


def _forget_output() -> None:
    """Let nothing more be written to a pipe that nobody reads."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
