"""Webhooks: whether one is genuine.

Source: the Standard Webhooks specification 1.0.0, symmetric signatures (`v1`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskmill_client.errors import ConfigurationError, InvalidSignature
from taskmill_client.events import Event, event_of

PREFIX: Final = "whsec_"
VERSION: Final = "v1"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_DIGITS: Final = 15


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str],
    tolerance_seconds: float = 300,
) -> Event:
    """Give the event of a webhook that Taskmill sent.

    Expect the same event twice: `event.id` is the same in every try.

    Args:
        body: the bytes as they came; parsed and written again they have another signature.
        headers: of the request; their names in any case.
        secret: `whsec_...`; several while one follows another.
        tolerance_seconds: how far the time of sending may be from now.

    Raises:
        InvalidSignature: a header is missing, the time is too far from now, or no signature fits.
        ConfigurationError: a secret is none.
    """
    keys = [_key_of(one) for one in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ConfigurationError("give the webhook's secret")
    found = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, signatures = (
        _header(found, name) for name in (ID, TIMESTAMP, SIGNATURE)
    )
    _check_time(timestamp, tolerance_seconds)
    wanted = [_signature(key, message_id, timestamp, body) for key in keys]
    given = [one.partition(",") for one in signatures.split(" ")]
    texts = [value.encode(errors="replace") for version, _, value in given if version == VERSION]
    if not any(hmac.compare_digest(mine, theirs) for mine in wanted for theirs in texts):
        raise InvalidSignature(
            "no signature of the webhook fits; is the secret that of the sender?"
        )
    return _event(body)


def _key_of(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ConfigurationError(f"a webhook's secret looks like {PREFIX}... and base64")
    return key


def _header(headers: Mapping[str, str], name: str) -> str:
    text = headers.get(name, "").strip()
    if not text:
        raise InvalidSignature(f"the webhook has no header {name}")
    return text


def _check_time(timestamp: str, tolerance_seconds: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _DIGITS):
        raise InvalidSignature(f"the webhook's {TIMESTAMP} is no time")
    if abs(time.time() - int(timestamp)) > tolerance_seconds:  # noqa: TID251 - the sender's clock
        raise InvalidSignature(
            f"the webhook was sent more than {tolerance_seconds:g} s from now: an old one, sent"
            " again by somebody else, or a clock that is wrong"
        )


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    message = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, message, hashlib.sha256))


def _event(body: bytes) -> Event:
    try:
        raw: dict[str, Any] = json.loads(body)
        return event_of(raw)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidSignature("the webhook is signed, and is no event of Taskmill") from None
