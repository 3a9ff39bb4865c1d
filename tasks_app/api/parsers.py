"""JSON in, by orjson: bounded in size and depth, free of what the store cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Final

import orjson
from rest_framework.parsers import BaseParser
from typing_extensions import override

from tasks_app.conf import conf
from tasks_app.errors import MalformedJson, PayloadTooLarge, ValidationFailed
from tasks_app.jsontext import has_nul, has_rounded_integer, is_rounded
from tasks_app.services.json_values import invalid, pointer_of

MAX_DEPTH: Final = 32
ENVELOPE_BYTES: Final = 65_536


def default_body_bytes() -> int:
    """Give the largest body of a call that carries one payload, in bytes."""
    return conf().max_payload_bytes + ENVELOPE_BYTES


def parse_json(body: bytes) -> Any:
    """Turn a body into JSON values; an empty body is `{}`.

    Raises:
        MalformedJson: not JSON in UTF-8 (NaN, Infinity and lone surrogates are not JSON either).
        ValidationFailed: nested deeper than 32 levels, holding a NUL character, or an integer that
            would be rounded; `errors` names the place.
    """
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {error}") from error
    if has_nul(body):
        raise ValidationFailed("the body holds a NUL character (\\u0000), which cannot be stored")
    check_depth(value)
    if has_rounded_integer(body):
        raise _rounded(body)
    return value


def _rounded(body: bytes) -> ValidationFailed:
    """Give the refusal of an integer that is none of 64 bits; only here is it read as it stands."""
    value = json.loads(body, parse_int=lambda text: _Rounded() if is_rounded(text) else 0)
    return invalid(
        _place_of(value, lambda one: isinstance(one, _Rounded)),
        "integer_range",
        "an integer beyond 64 bits would be rounded; send it as a string",
    )


class _Rounded:
    """Stands for an integer that is not kept."""


def _place_of(value: Any, is_wrong: Callable[[Any], bool]) -> str:
    """Give the JSON pointer of the first value, or of the first name, that is wrong."""
    return next((pointer_of(path) for path, one in _walk(value) if is_wrong(one)), "")


def _walk(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Give each name and value with its path, in the order of the body."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while pending:
        path, one = pending.pop()
        yield path, one
        if isinstance(one, dict):
            pending.extend(((*path, name), item) for name, item in reversed(one.items()))
            pending.extend(((*path, name), name) for name in reversed(one))
        elif isinstance(one, list):
            pending.extend(((*path, number), one[number]) for number in reversed(range(len(one))))


def check_depth(value: Any) -> None:
    """Refuse values nested deeper than `MAX_DEPTH`.

    Raises:
        ValidationFailed: too deep.
    """
    level = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValidationFailed(f"the body is nested deeper than {MAX_DEPTH} levels")
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]


def read_bounded(stream: IO[bytes], *, declared_bytes: int, most_bytes: int) -> bytes:
    """Read a body, refusing it by its declared length before and by its true length while reading.

    Raises:
        PayloadTooLarge: larger than `most_bytes`.
    """
    if declared_bytes > most_bytes:
        raise PayloadTooLarge(f"the body has {declared_bytes} bytes, the limit is {most_bytes}")
    body = stream.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise PayloadTooLarge(f"the body is larger than the limit of {most_bytes} bytes")
    return body


class JSONParser(BaseParser):
    """Parses request bodies; the view's `max_body_bytes` overrides the default bound."""

    media_type = "application/json"

    @override
    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Give the JSON values of the body."""
        context = parser_context or {}
        limit = getattr(context.get("view"), "max_body_bytes", None) or default_body_bytes()
        meta = context["request"].META if "request" in context else {}
        declared = meta.get("CONTENT_LENGTH") or 0
        return parse_json(read_bounded(stream, declared_bytes=int(declared), most_bytes=limit))
