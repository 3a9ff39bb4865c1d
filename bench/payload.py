"""The payload that every task of every system carries, in our environment and in the peers'."""

from __future__ import annotations

from typing import Any


def make_payload(text_bytes: int) -> dict[str, Any]:
    """Give a payload with a text of so many bytes, or with a word for 0."""
    return {"message": "x" * text_bytes or "hello", "number": 42}
