"""How an answer becomes a result, which has to be JSON that the store takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from notifications.outbound import shown
from tasks_app.jsontext import has_nul, has_rounded_integer, printed_bytes

_NEVER_SHOWN: Final = frozenset({"set-cookie", "set-cookie2"})
_MOST_HEADER_BYTES: Final = 32_768
_MOST_PRINTED_BYTES: Final = 900_000


def headers_shown(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Give the headers of an answer, names in lower case, repeated ones joined; no cookies."""
    found: dict[str, str] = {}
    room = _MOST_HEADER_BYTES
    for raw, text in headers:
        name = shown(raw).lower()
        room -= len(raw) + len(text)
        if name not in _NEVER_SHOWN and room > 0:
            found[name] = f"{found[name]}, {shown(text)}" if name in found else shown(text)
    return found


def body_shown(body: bytes, *, content_type: str, is_truncated: bool) -> dict[str, Any]:
    """Give `json` for JSON that the store keeps as it is, else `body`, its text.

    NUL characters and what is no UTF-8 are shown as replacement characters.
    """
    kind = content_type.partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if is_json and body and not is_truncated:
        try:
            value = orjson.loads(body)
            text = orjson.dumps(value)
        except (ValueError, RecursionError):
            return {"body": _text(body)}
        is_kept = not has_nul(text) and printed_bytes(text) <= _MOST_PRINTED_BYTES
        if is_kept and not has_rounded_integer(body):
            return {"json": value}
    return {"body": _text(body)}


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace").replace("\x00", "\N{REPLACEMENT CHARACTER}")
