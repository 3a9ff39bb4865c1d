"""JSON text as orjson writes it, and what becomes of it in the store. Pure.

Whatever is bounded in bytes is measured here: payloads and metadata at the edge, results and log
lines in the worker, what quotas and pages count.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_HAS_EXPONENT: Final = re.compile(rb"e[-+]?[0-9]{1,3}(?:[,\]}]|\Z)")
_EXPONENT: Final = re.compile(rb"([0-9](?:\.[0-9]+)?)e([-+]?)([0-9]+)")
_ANY_DIGIT: Final = bytes.maketrans(b"123456789", b"0" * 9)
_LONG: Final = b"0" * 19
_INTEGER: Final = re.compile(rb"(?<![0-9.eE+-])-?[0-9]{19,}(?![0-9.eE])")
LEAST_INTEGER: Final = -(2**63)
MOST_INTEGER: Final = 2**64 - 1


def printed_bytes(text: bytes) -> int:
    """Give how long PostgreSQL prints a JSON text, but for the spaces that it puts between.

    It knows no exponents: what is sent as `1e308` is printed with 309 digits. Only a text with
    exponents has to be looked through.

    Args:
        text: as orjson writes it.
    """
    if _HAS_EXPONENT.search(text) is None:
        return len(text)
    numbers = _EXPONENT.findall(_TEXT.sub(b'""', text))
    return len(text) + sum(_growth(*number) for number in numbers)


def _growth(mantissa: bytes, sign: bytes, exponent: bytes) -> int:
    """Give what a number gains; of its 16 decimal places none is left where the exponent is
    positive, since orjson writes that from 1e16 on.
    """
    places, shift = max(len(mantissa) - 2, 0), int(exponent)
    printed = 2 + places + shift if sign == b"-" else 1 + shift
    return printed - len(mantissa) - 1 - len(sign) - len(exponent)


def has_nul(text: bytes) -> bool:
    """Say whether a JSON text holds a NUL character, which PostgreSQL cannot store."""
    return b"\\u0000" in text and _NUL.search(text) is not None


def is_rounded(integer: str) -> bool:
    """Say whether an integer of a JSON text is read as another number: as the nearest float.

    One beyond 64 bits is kept where its digits are the float's own, as `100000000000000000000` is,
    which PostgreSQL prints for `1e20`.
    """
    exact = Decimal(integer)
    if LEAST_INTEGER <= exact <= MOST_INTEGER:
        return False
    return Decimal(repr(float(integer))) != exact


def has_rounded_integer(text: bytes) -> bool:
    """Say whether a JSON text, known to be valid, holds an integer that is read as another one."""
    if _LONG not in text.translate(_ANY_DIGIT):
        return False
    found = _INTEGER.findall(_TEXT.sub(b'""', text))
    return any(is_rounded(integer.decode()) for integer in found)


def why_not_json(error: Exception) -> str:
    """Give the reason why orjson cannot write a value, with what to do about it."""
    reason = str(error)
    if reason.startswith("Integer exceeds"):
        return "an integer has more than 64 bits; write it as a string"
    return reason
