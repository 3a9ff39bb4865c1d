"""Secrets as they are stored: unreadable without SECRET_KEY, and any change of them is noticed.

Who reads the database, a dump or a replica can sign nothing. A secret is masked with a pad of its
own (HMAC-SHA256 of a random nonce, so a pad is used once) and authenticated together with the
nonce. `SECRET_KEY_FALLBACKS` open what an earlier key has sealed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from django.conf import settings

from tasks_app.errors import TaskmillError

SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_VERSION: Final = "1."


class SealBroken(TaskmillError):
    """A stored secret was sealed with a key that is gone; add it to SECRET_KEY_FALLBACKS."""

    code = "seal_broken"


def seal(secret: bytes) -> str:
    """Give the stored form of a secret of 32 bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    nonce = secrets.token_bytes(_NONCE_BYTES)
    masked = _masked(settings.SECRET_KEY, nonce, secret)
    tag = _mac(settings.SECRET_KEY, b"tag", nonce + masked)
    return _VERSION + base64.b64encode(nonce + masked + tag).decode()


def unseal(text: str) -> bytes:
    """Give the secret of a stored form.

    Raises:
        SealBroken: none of the keys of this installation has sealed it.
    """
    raw = base64.b64decode(text.removeprefix(_VERSION))
    nonce, masked = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:-SECRET_BYTES]
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        if hmac.compare_digest(raw[-SECRET_BYTES:], _mac(key, b"tag", nonce + masked)):
            return _masked(key, nonce, masked)
    raise SealBroken


def _masked(key: str, nonce: bytes, text: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(text, _mac(key, b"pad", nonce), strict=True))


def _mac(key: str, purpose: bytes, message: bytes) -> bytes:
    derived = hmac.digest(key.encode(), b"taskmill.sealing." + purpose, hashlib.sha256)
    return hmac.digest(derived, message, hashlib.sha256)
