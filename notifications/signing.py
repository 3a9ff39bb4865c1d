"""Standard Webhooks signatures: pure functions of secret, id, time and body.

Source: the Standard Webhooks specification 1.0.0, symmetric signatures (`v1`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from notifications.sealing import SECRET_BYTES

PREFIX: Final = "whsec_"


def new_secret() -> bytes:
    """Give a random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def shown_secret(secret: bytes) -> str:
    """Give a secret as receivers configure it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secret).decode()


def signature(secret: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Give `v1,<base64>`.

    Args:
        timestamp: Unix seconds of this try.
        body: the exact bytes that are sent.
    """
    message = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(secret, message, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def signed_headers(
    keys: Sequence[bytes], *, message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Give the three headers of a try, signed with every key (two during a rotation)."""
    found = (signature(key, message_id=message_id, timestamp=timestamp, body=body) for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(found),
    }
