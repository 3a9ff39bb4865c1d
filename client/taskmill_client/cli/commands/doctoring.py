"""`taskmill doctor`: is the platform there, is the token good for it, does somebody work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import typer

from taskmill_client import (
    ApiError,
    AuthenticationFailed,
    Client,
    PermissionRefused,
    ServerUnavailable,
)
from taskmill_client.cli import options
from taskmill_client.cli.faults import ExitCode, lines_of
from taskmill_client.cli.output import styled, table, write_json_lines
from taskmill_client.cli.session import Platform, platform

MOST_SKEW_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 10.0
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_PROBES: Final[tuple[tuple[str, str, str, Any], ...]] = (
    ("tasks:read", "GET", "/workers", None),
    ("tasks:submit", "POST", "/tasks", {}),
    ("tasks:cancel", "POST", f"/tasks/{_NOBODY}/cancel", {}),
    ("queues:write", "POST", "/queues", {}),
    ("schedules:write", "GET", "/schedules", None),
    ("webhooks:write", "GET", "/webhooks", None),
)
"""Calls that change nothing: bodies that are refused, ids that nobody has. 403 means no scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found; `code` is what the command ends with where it is a fault."""

    check: str
    status: str
    detail: str
    fix: str = ""
    code: int = ExitCode.OK


def doctor(*, is_json: options.Json = False) -> None:
    """Check the way to the platform: address, token, scopes, clock, parts, workers.

    [bold]Examples[/bold]

      taskmill doctor

      taskmill doctor --json | jq -r 'select(.status == "fault") | .fix'

    0 where nothing is wrong; 9 unreachable, 6 the token, 1 a part of the platform.
    """
    findings: list[Finding] = []
    shown = (_noted(findings, one) for one in _examine(platform()))
    if is_json:
        write_json_lines(asdict(one) for one in shown)
    else:
        rows = [(one.check, styled(one.status), one.detail, one.fix) for one in shown]
        table(("CHECK", "STATUS", "FOUND", "DO"), rows)
    raise typer.Exit(next((one.code for one in findings if one.code), ExitCode.OK))


def _noted(findings: list[Finding], one: Finding) -> Finding:
    findings.append(one)
    return one


def _examine(chosen: Platform) -> Iterator[Finding]:
    yield Finding(check="platform", status="ok", detail=f"{chosen.url} ({chosen.source})")
    yield from _transport(chosen)
    with Client(chosen.url, chosen.token, timeout=TIMEOUT_SECONDS, retries=0) as client:
        try:
            began = time.monotonic()
            health = client.health()
        except ServerUnavailable as error:
            yield Finding(
                check="reachable",
                status="fault",
                detail=" ".join(lines_of(error)),
                fix="is the platform running, and is this its address?",
                code=ExitCode.UNREACHABLE,
            )
            return
        took = (time.monotonic() - began) * 1000
        yield Finding(check="reachable", status="ok", detail=f"answers in {took:.0f} ms")
        yield from _clock(chosen)
        yield from _token(client)
        yield from _parts(health)


def _transport(chosen: Platform) -> Iterator[Finding]:
    parts = urlsplit(chosen.url)
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        yield Finding(
            check="transport",
            status="warning",
            detail="the token travels unencrypted",
            fix="use https",
        )


def _clock(chosen: Platform) -> Iterator[Finding]:
    try:
        answer = httpx.get(f"{chosen.url.rstrip('/')}/api/v1/livez", timeout=TIMEOUT_SECONDS)
        there = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError):
        yield Finding(check="clock", status="warning", detail="the server names no time")
        return
    here = datetime.now(UTC)  # noqa: TID251 - this machine's clock is what is checked
    skew = (here - there).total_seconds() - 0.5
    is_good = abs(skew) <= MOST_SKEW_SECONDS
    yield Finding(
        check="clock",
        status="ok" if is_good else "warning",
        detail=f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server",
        fix="" if is_good else "set this machine's clock; webhooks are checked against it",
    )


def _token(client: Client) -> Iterator[Finding]:
    has: list[str] = []
    lacks: list[str] = []
    for scope, method, path, body in _PROBES:
        try:
            is_held = _may(client, method, path, body)
        except AuthenticationFailed as error:
            yield Finding(
                check="token",
                status="fault",
                detail=error.title or "refused",
                fix="set TASKMILL_TOKEN or `taskmill login`",
                code=ExitCode.AUTHENTICATION,
            )
            return
        (has if is_held else lacks).append(scope)
    yield Finding(check="token", status="ok", detail="valid")
    yield Finding(check="scopes", status="ok", detail=f"has {', '.join(has) or 'none'}")
    if lacks:
        yield Finding(
            check="scopes",
            status="warning",
            detail=f"lacks {', '.join(lacks)}",
            fix="an administrator gives keys their scopes",
        )


def _may(client: Client, method: str, path: str, body: Any) -> bool:
    """Say whether the key has the scope of a call.

    Raises:
        AuthenticationFailed: the key itself is refused.
    """
    try:
        client.request(method, path, body)
    except PermissionRefused:
        return False
    except AuthenticationFailed:
        raise
    except ApiError:
        return True
    return True


def _parts(health: dict[str, Any]) -> Iterator[Finding]:
    for name, part in (health.get("parts") or {}).items():
        is_good = part["status"] in {"ok", "off"}
        numbers = ""
        if name == "workers":
            numbers = f"{part.get('online', 0)} online, {part.get('slots', 0)} slots"
        yield Finding(
            check=name,
            status="ok" if is_good else "fault",
            detail=part.get("detail") or numbers or part["status"],
            fix="" if is_good else "`manage.py doctor` on the server says more",
            code=ExitCode.OK if is_good else ExitCode.OTHER,
        )
