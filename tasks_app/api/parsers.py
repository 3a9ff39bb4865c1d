"""JSON in, by orjson: bounded in size and depth, free of what the store cannot hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, Final

import orjson
from rest_framework.parsers import BaseParser
from typing_extensions import override

from tasks_app.conf import conf
from tasks_app.errors import MalformedJson, PayloadTooLarge, ValidationFailed
from tasks_app.jsontext import has_nul

MAX_DEPTH: Final = 32
ENVELOPE_BYTES: Final = 65_536


def default_body_bytes() -> int:
    """Give the largest body of a call that carries one payload, in bytes."""
    return conf().max_payload_bytes + ENVELOPE_BYTES


def parse_json(body: bytes) -> Any:
    """Turn a body into JSON values; an empty body is `{}`.

    Raises:
        MalformedJson: not JSON in UTF-8 (NaN, Infinity and lone surrogates are not JSON either).
        ValidationFailed: nested deeper than 32 levels, or holding a NUL character.
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
