"""JSON in, by orjson: bounded in size and depth, free of what the store cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, Final

import orjson
from rest_framework.parsers import BaseParser
from typing_extensions import override

from tasks_app.conf import conf
from tasks_app.errors import MalformedJson, PayloadTooLarge
from tasks_app.jsontext import has_nul, has_rounded_integer, is_rounded
from tasks_app.services.json_values import invalid, pointer_of

MAX_DEPTH: Final = 32
ENVELOPE_BYTES: Final = 65_536
MOST_SEARCHED: Final = 2_097_152
"""In a larger body it is not looked for the place that is wrong."""


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
    check_depth(value)
    if has_nul(body):
        words = "a NUL character (\\u0000) cannot be stored; leave it out"
        raise invalid(_place_of(value, _holds_nul, size=len(body)), "nul_character", words)
    if has_rounded_integer(body):
        words = "an integer beyond 64 bits would be rounded; send it as a string"
        raise invalid(_place_of_rounded(body), "integer_range", words)
    return value


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
            words = (
                f"nested deeper than {MAX_DEPTH} levels; send what is inside as a string of JSON"
            )
            raise invalid(_place_of_depth(value), "too_deep", words)
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]


Judge = Callable[[Any], bool]


class _Rounded:
    """Stands for an integer that is not kept."""


def _place_of_rounded(body: bytes) -> str:
    """Give the pointer of an integer that is not kept, which orjson cannot give as it stands."""
    if len(body) > MOST_SEARCHED:
        return ""
    value = json.loads(body, parse_int=lambda text: _Rounded() if is_rounded(text) else 0)
    return _place_of(value, lambda one: isinstance(one, _Rounded), size=len(body))


def _holds_nul(one: Any) -> bool:
    return isinstance(one, str) and "\x00" in one


def _place_of(value: Any, is_wrong: Judge, *, size: int) -> str:
    """Give the pointer of the first name or value that is wrong; "" in a body too large to look."""
    path = _path_to(value, is_wrong) if size <= MOST_SEARCHED else None
    return pointer_of(path or ())


def _path_to(value: Any, is_wrong: Judge) -> list[str | int] | None:
    if is_wrong(value):
        return []
    for name, item in _items(value):
        if is_wrong(name):
            return [name]
        path = _path_to(item, is_wrong)
        if path is not None:
            return [name, *path]
    return None


def _place_of_depth(value: Any) -> str:
    """Give the pointer of the first place that is too deep."""
    ways = [iter(_items(value))]
    names: list[str | int] = []
    while len(ways) <= MAX_DEPTH:
        name, item = next(ways[-1], (None, None))
        if name is None:
            ways.pop()
            del names[-1:]
        elif isinstance(item, dict | list):
            ways.append(iter(_items(item)))
            names.append(name)
    return pointer_of(names)


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


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
