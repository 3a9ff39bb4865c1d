"""JSON at the edge: what may be stored, how large it is, and pydantic's faults as `errors`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from tasks_app.errors import ValidationFailed
from tasks_app.jsontext import has_nul, printed_bytes, why_not_json

_HEADROOM: Final = 4
_UNKNOWN_FIELD: Final = "unknown field"
MOST_OF_POINTER: Final = 500


def json_size(value: Any) -> int:
    """Check that a value can be stored and give its size in bytes of JSON, as the store prints it.

    Raises:
        PydanticCustomError: not JSON, a NUL character, NaN or infinity, or nested about 250 deep;
            usable inside validators.
    """
    try:
        text = orjson.dumps([[[[value]]]])
    except TypeError as error:
        raise PydanticCustomError(
            "not_json", "cannot be stored as JSON: {reason}", {"reason": why_not_json(error)}
        ) from error
    if has_nul(text):
        raise PydanticCustomError("nul_character", "NUL characters cannot be stored")
    if b"null" in text and _has_odd_number(value):
        raise PydanticCustomError("not_json", "NaN and infinity are not JSON")
    return printed_bytes(text) - 2 * _HEADROOM


def _has_odd_number(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return True
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
    return False


def invalid(pointer: str, code: str, detail: str) -> ValidationFailed:
    """Give the 422 of one fault at a JSON pointer."""
    return ValidationFailed(
        f"{pointer or 'the body'}: {detail}",
        errors=[{"pointer": pointer, "code": code, "detail": detail}],
    )


def unknown_fields(names: Iterable[str]) -> ValidationFailed:
    """Give the 422 of fields where none is known."""
    errors = [
        {"pointer": pointer_of([name]), "code": "extra_forbidden", "detail": _UNKNOWN_FIELD}
        for name in names
    ]
    return ValidationFailed(f"{errors[0]['pointer']}: {_UNKNOWN_FIELD}", errors=errors)


def validation_failed(error: ValidationError, *, at: str = "") -> ValidationFailed:
    """Give the 422 of a pydantic error, each fault with its RFC 6901 pointer below `at`."""
    faults = error.errors(include_url=False)
    listed = faults[: ValidationFailed.most_errors]
    errors = [
        {
            "pointer": at + _pointer(fault),
            "code": fault["type"],
            "detail": _words_for(fault),
        }
        for fault in listed
    ]
    first = errors[0]
    return ValidationFailed(
        f"{first['pointer'] or 'the body'}: {first['detail']}",
        errors=errors,
        more_errors=len(faults) - len(listed),
    )


_WORDS: Final = {
    "extra_forbidden": _UNKNOWN_FIELD,
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dataclass_type", "dict_type", "mapping_type"),
        "write a JSON object",
    ),
    **dict.fromkeys(
        ("list_type", "tuple_type", "set_type", "frozen_set_type"), "write a JSON array"
    ),
}


def _words_for(fault: Any) -> str:
    """Say what is wrong to somebody who writes JSON; pydantic speaks of Python's types."""
    kind = fault["type"]
    if kind in {"too_short", "too_long"} and isinstance(fault["input"], str):
        most = fault["ctx"].get("max_length")
        bound = f"at most {most}" if most is not None else f"at least {fault['ctx']['min_length']}"
        return f"write {bound} characters, not {len(fault['input'])}"
    return str(_WORDS.get(kind, fault["msg"])).removeprefix("Value error, ")


def _pointer(fault: Any) -> str:
    context = fault.get("ctx") or {}
    parts = [*fault["loc"], *([context["field"]] if "field" in context else [])]
    return pointer_of(parts)


def pointer_of(parts: Iterable[str | int]) -> str:
    """Give the RFC 6901 pointer of a path, cut where a name is endless."""
    text = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
    return (
        text if len(text) <= MOST_OF_POINTER else f"{text[:MOST_OF_POINTER]}\N{HORIZONTAL ELLIPSIS}"
    )
