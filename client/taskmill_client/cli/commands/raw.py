"""`taskmill api`: any call of the API, for whatever has no command."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

import typer

from taskmill_client.cli.faults import Refusal
from taskmill_client.cli.output import write_json
from taskmill_client.cli.reading import nearest, read_payload
from taskmill_client.cli.session import client

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def api(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PATCH, DELETE.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Below /api/v1.")],
    *,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--param", metavar="KEY=VALUE", help="A field of the body; of the query for GET."
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("-f", "--file", help="The body as JSON; - is standard input.")
    ] = None,
    headers: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="NAME:VALUE", help="A header.")
    ] = None,
) -> None:
    """Call the API and print its answer.

    [bold]Examples[/bold]

      taskmill api GET '/tasks?status=failed&limit=2'

      taskmill api POST /queues/reports/clean -p grace_period=3600 -p status=success

    A POST carries an Idempotency-Key of its own, so that it can be repeated when no answer comes.
    """
    verb = method.upper()
    if verb not in _METHODS:
        raise Refusal(f"{method!r} is no method", hint=nearest(verb, _METHODS))
    place, _, query = path.partition("?")
    params: dict[str, Any] = _gathered(parse_qsl(query, keep_blank_values=True))
    body = None
    if verb == "GET":
        params |= read_payload(pairs or [], file) or {}
    else:
        body = read_payload(pairs or [], file)
    sent = _headers(headers or [])
    if verb == "POST" and not any(name.lower() == "idempotency-key" for name in sent):
        sent["Idempotency-Key"] = uuid.uuid4().hex
    found = client().request(verb, place, json=body, params=params, headers=sent)
    if found is not None:
        write_json(found)


def _gathered(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in found.items()}


def _headers(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition(":")
        if not sign or not name.strip():
            raise Refusal(f"{text!r} is not name:value")
        found[name.strip()] = value.strip()
    return found
