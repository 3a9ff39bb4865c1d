"""`taskmill login` and `taskmill profile`: platforms and tokens, kept in a private file."""

from __future__ import annotations

import sys
from dataclasses import replace
from getpass import getpass
from typing import Annotated

import typer

from taskmill_client import Client, PermissionRefused
from taskmill_client.cli import options
from taskmill_client.cli.faults import ExitCode, Refusal
from taskmill_client.cli.grouping import Group
from taskmill_client.cli.output import err, say, table, write_json_lines
from taskmill_client.cli.profiles import Profile, read_profiles, variable, write_profiles
from taskmill_client.cli.session import CHOICE

profile = Group("Keep several platforms and choose one.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
CHECK_SECONDS = 10.0


def login(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A name for it.")] = "default",
    *,
    is_unchecked: Annotated[
        bool, typer.Option("--no-check", help="Store it without trying it.")
    ] = False,
) -> None:
    """Store a platform and a token, and use them from now on.

    [bold]Examples[/bold]

      taskmill login

      taskmill --url https://tasks.example.com login production < token.txt

    On a terminal it asks for what it needs; else the token is read from standard input, where
    no other user of the machine sees it. The file has mode 0600.
    """
    stored = _read(name)
    if not is_unchecked:
        _check(stored)
    _store(name, stored, is_current=True)


@profile.command("add")
def add(name: Name) -> None:
    """Store a platform and a token without using them yet.

    [bold]Examples[/bold]

      taskmill --url https://tasks.example.com profile add staging < token.txt
    """
    _store(name, _read(name), is_current=False)


@profile.command("use")
def use(name: Name) -> None:
    """Use a stored platform from now on.

    [bold]Examples[/bold]

      taskmill profile use staging
    """
    profiles = read_profiles()
    chosen = profiles.named(name)
    write_profiles(replace(profiles, current=name))
    say(f"{name} ({chosen.url}) is used from now on")
    if variable("TASKMILL_URL") or variable("TASKMILL_TOKEN"):
        say("TASKMILL_URL and TASKMILL_TOKEN are set here, and win over profiles")


@profile.command("remove")
def remove(name: Name) -> None:
    """Forget a stored platform.

    [bold]Examples[/bold]

      taskmill profile remove staging
    """
    profiles = read_profiles()
    profiles.named(name)
    known = {one: value for one, value in profiles.known.items() if one != name}
    current = "" if profiles.current == name else profiles.current
    write_profiles(replace(profiles, known=known, current=current))
    say(f"{name} is forgotten")


@profile.command("list")
def list_profiles(*, is_json: options.Json = False) -> None:
    """List stored platforms; tokens are not shown.

    [bold]Examples[/bold]

      taskmill profile list
    """
    profiles = read_profiles()
    rows = [
        {"name": name, "url": one.url, "is_current": name == profiles.current}
        for name, one in sorted(profiles.known.items())
    ]
    if is_json:
        write_json_lines(rows)
        return
    shown = ((one["name"], one["url"], "in use" if one["is_current"] else "") for one in rows)
    table(("NAME", "URL", ""), shown)
    if not rows:
        say("no profiles; `taskmill login` stores one")


def _read(name: str) -> Profile:
    """Read address and token.

    Raises:
        Refusal: one is missing, and there is nobody to ask.
    """
    is_asking = sys.stdin.isatty() and err().is_terminal
    url = CHOICE.url or variable("TASKMILL_URL")
    if not url and is_asking:
        url = typer.prompt("URL of the platform", default="http://127.0.0.1:8000", err=True)
    if not url:
        raise Refusal("no platform is named", hint=f"taskmill --url URL login {name}")
    token = getpass("Token: ") if is_asking else sys.stdin.readline()
    if not token.strip():
        raise Refusal("no token was given", hint="write it to standard input")
    return Profile(url=url.strip().rstrip("/"), token=token.strip())


def _check(stored: Profile) -> None:
    with Client(stored.url, stored.token, timeout=CHECK_SECONDS, retries=1) as client:
        try:
            client.workers.list()
        except PermissionRefused:
            return


def _store(name: str, stored: Profile, *, is_current: bool) -> None:
    if not name or not name.isprintable():
        raise Refusal("a profile needs a name", code=ExitCode.USAGE)
    profiles = read_profiles()
    current = name if is_current or not profiles.current else profiles.current
    path = write_profiles(
        replace(profiles, known={**profiles.known, name: stored}, current=current)
    )
    say(f"{name} ({stored.url}) is stored in {path}{'' if current != name else ' and is used'}")
