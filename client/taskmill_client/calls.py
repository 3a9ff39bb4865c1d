"""Calls of the usual kinds, and what their bodies are made of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

from taskmill_client.wire import Call, JsonObject


class Unset(Enum):
    """What is left out stands for nothing, where None is a value that can be given."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
Left: TypeAlias = Literal[Unset.UNSET]
EXAMPLE_ID: Final = "0196f3c2-e7b8-7a3c-9d1e-5b7a2f4c6d8e"


def given(**fields: Any) -> JsonObject:
    """Give the fields without those that are left out."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def known(**fields: Any) -> JsonObject:
    """Give the fields without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def get_call(path: str, **query: Any) -> Call:
    """Read something."""
    return Call(method="GET", path=path, query=query)


def post_call(path: str, body: JsonObject | None = None, *, is_repeatable: bool = False) -> Call:
    """Ask for something to be done; say whether doing it twice is doing it once."""
    return Call(method="POST", path=path, body=body or {}, is_repeatable=is_repeatable)


def keyed_call(path: str, body: Mapping[str, Any], key: str | None) -> Call:
    """Ask for something that is done once for each Idempotency-Key; None makes one."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return Call(method="POST", path=path, body=body, headers=headers)


def named_path(collection: str, name: object, suffix: str = "") -> str:
    """Give the path of something that has a name."""
    return f"/{collection}/{quote(str(name), safe='')}{suffix}"


def id_path(collection: str, value: str | uuid.UUID, suffix: str, *, advice: str) -> str:
    """Give the path of something that has a UUID.

    Raises:
        ValueError: it is none, so that nothing else is asked for by mistake.
    """
    try:
        return f"/{collection}/{uuid.UUID(str(value))}{suffix}"
    except ValueError:
        raise ValueError(f"{value!r} is no UUID, such as {EXAMPLE_ID}; {advice}") from None


def seconds_of(value: timedelta | float | None) -> float | None:
    """Give seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value
