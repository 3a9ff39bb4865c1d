"""Reads what people type: durations, instants, payloads of `key=value`, filters."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from taskmill_client.cli.faults import Refusal

_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FILTERS: Final = {
    "status": "status",
    "state": "state",
    "waiting": "waiting",
    "type": "type",
    "queue": "queue",
    "tag": "tag",
    "key": "concurrency_key",
    "schedule": "schedule",
    "parent": "parent",
    "since": "created_after",
    "until": "created_before",
    "q": "q",
}
"""Words of a filter, and the query parameters of the API that they stand for."""


def read_seconds(text: str) -> float:
    """Read a duration: `90`, `30s`, `1h30m`, `2d`.

    Raises:
        Refusal: it is none.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Refusal(f"{text!r} is not a duration; write for example 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def read_instant(text: str) -> str:
    """Read an instant, or how long ago it was (`2h`); gives ISO 8601 with its offset.

    Raises:
        Refusal: it is neither, or has no offset.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        ago = timedelta(seconds=read_seconds(text))
        return (datetime.now(UTC) - ago).isoformat()  # noqa: TID251 - what "ago" means to the person
    if instant.tzinfo is None:
        instant = instant.astimezone()
    return instant.isoformat()


def read_value(text: str) -> Any:
    """Read a value: JSON where it is JSON (`3`, `true`, `null`, `[1]`, `"3"`), else a string."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except ValueError:
        return text


def _not_json(word: str) -> Any:
    raise ValueError(word)


def read_payload(pairs: Iterable[str], file: str | None) -> Any:
    """Put a payload together: the file's, with the pairs set in it. Dots in keys nest.

    Returns:
        The payload; None where neither is given.

    Raises:
        Refusal: a pair without `=`, a key that is given twice, a file that is not JSON.
    """
    payload = read_json_file(file) if file is not None else None
    pairs = list(pairs)
    if not pairs:
        return payload
    if payload is not None and not isinstance(payload, dict):
        raise Refusal("-p sets fields of an object, and the payload of -f is none")
    payload = dict(payload or {})
    seen: set[str] = set()
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise Refusal(f"{pair!r} is not key=value")
        if key in seen:
            raise Refusal(f"{key} is given twice; write a list as JSON: -p '{key}=[1, 2]'")
        seen.add(key)
        _put(payload, key.split("."), read_value(text), key)
    return payload


def _put(payload: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    *above, last = path
    for name in above:
        inner = payload.setdefault(name, {})
        if not isinstance(inner, dict):
            raise Refusal(f"{key} lies in {name}, which is no object")
        payload = inner
    payload[last] = value


def read_json_file(name: str) -> Any:
    """Read JSON from a file, or from standard input for `-`.

    Raises:
        Refusal: the file cannot be read, or is not JSON.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(f"{name} is not text in UTF-8") from error
    except OSError as error:
        raise Refusal(f"{name} cannot be read: {error.strerror or error}") from error
    try:
        return json.loads(text, parse_constant=_not_json)
    except ValueError as error:
        raise Refusal(f"{_shown(name)} is not JSON: {error}") from error


def _shown(name: str) -> str:
    return "standard input" if name == "-" else name


def read_filter(text: str) -> dict[str, Any]:
    """Read a filter such as `status:failed,error queue:reports since:2h tag:vip`.

    Returns:
        Query parameters of `GET /tasks`.

    Raises:
        Refusal: a word that is none, with the nearest one.
    """
    found: dict[str, Any] = {}
    for term in text.split():
        name, sign, value = term.partition(":")
        if name not in _FILTERS:
            raise Refusal(
                f"{name!r} is no filter" if sign else f"{term!r} is not name:value",
                hint=nearest(name, _FILTERS) or f"filters: {', '.join(_FILTERS)}",
            )
        if not value:
            raise Refusal(f"{name}: needs a value")
        if name in {"since", "until"}:
            value = read_instant(value)
        if name == "tag":
            found.setdefault("tag", []).append(value)
            continue
        if _FILTERS[name] in found:
            raise Refusal(f"{name}: is given twice")
        found[_FILTERS[name]] = value
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """Give a question that names the known word nearest to a mistyped one; or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""
