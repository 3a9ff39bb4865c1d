"""`taskmill webhooks`: try receivers of webhooks on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from taskmill_client import verify_webhook
from taskmill_client.cli.faults import ExitCode, Refusal
from taskmill_client.cli.grouping import Group
from taskmill_client.cli.listening import Forwarder, feed
from taskmill_client.cli.output import say, write_json
from taskmill_client.cli.profiles import variable
from taskmill_client.cli.reading import read_seconds
from taskmill_client.cli.session import platform

webhooks = Group("Verify webhooks, and receive events on this machine.")
SecretFile = Annotated[
    str,
    typer.Option(
        "--secret-file",
        metavar="FILE",
        help="Holds the secret whsec_...; else TASKMILL_WEBHOOK_SECRET.",
    ),
]


@webhooks.command("verify")
def verify(
    *,
    headers: Annotated[
        list[str],
        typer.Option("-H", "--header", metavar="NAME:VALUE", help="A header of the request."),
    ],
    file: Annotated[
        str, typer.Option("-f", "--file", help="The body as it came; - is standard input.")
    ] = "-",
    secret_file: SecretFile = "",
    tolerance: Annotated[
        str, typer.Option("--tolerance", metavar="DURATION", help="How old it may be.")
    ] = "5m",
) -> None:
    """Say whether a webhook is genuine, and print its event.

    [bold]Examples[/bold]

      taskmill webhooks verify -f body.json -H "webhook-id: $ID" -H "webhook-timestamp: $AT"
      -H "webhook-signature: $SIGNATURE"

    0 it is, 1 it is not.
    """
    secret = _secret(secret_file)
    if not secret:
        raise Refusal("no secret was given", hint="set TASKMILL_WEBHOOK_SECRET or --secret-file")
    found = dict(_header(one) for one in headers)
    event = verify_webhook(_body(file), found, secret, read_seconds(tolerance))
    write_json(event.raw)
    say("genuine")


def _header(text: str) -> tuple[str, str]:
    name, sign, value = text.partition(":")
    if not sign:
        raise Refusal(f"{text!r} is not name:value")
    return name.strip().lower(), value.strip()


def _body(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Refusal(f"{file} cannot be read: {error.strerror}", code=ExitCode.OTHER) from error


def _secret(file: str) -> str:
    if not file:
        return variable("TASKMILL_WEBHOOK_SECRET")
    return _body(file).decode("utf-8", "replace").strip()


@webhooks.command("listen")
def listen(
    *,
    address: Annotated[
        str, typer.Option("--forward-to", metavar="URL", help="Where to send the events.")
    ],
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type; repeatable.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", help="Only of tasks with one of these tags.")
    ] = None,
    secret_file: SecretFile = "",
    most: Annotated[
        int, typer.Option("-n", "--number", min=0, help="Stop after so many; 0 never.")
    ] = 0,
) -> None:
    """Send the platform's events to a URL on this machine, as its webhooks would.

    [bold]Examples[/bold]

      taskmill webhooks listen --forward-to http://localhost:3000/hook --type task.succeeded

    Signed where a secret is given. What the receiver answers is printed; nothing is sent again.
    """
    if urlsplit(address).scheme not in {"http", "https"}:
        raise Refusal(f"{address!r} is no URL; it looks like http://localhost:3000/hook")
    secret = _secret(secret_file)
    chosen = platform()
    say(f"events of {chosen.url} go to {address}{' signed' if secret else ''}; Ctrl-C stops it")
    with Forwarder(address, secret) as forwarder:
        for number, raw in enumerate(feed(chosen, types or [], tags or []), start=1):
            forwarder.send(raw)
            if number == most:
                return
