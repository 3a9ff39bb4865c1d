"""API keys: made, revoked, and turned back into the principal that a bearer token stands for.

A token is `tm_<environment>_<id>_<secret>`; the store keeps its SHA-256 digest alone. Found
principals are remembered in the process for at most `CACHE_SECONDS`: a revocation is in force
everywhere within that time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.db import connection, transaction

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.errors import NotAuthenticated, ValidationFailed
from tasks_app.models import ApiKey, Tenant
from tasks_app.services.watch import Watch, read_watch_token

SCOPES: Final = (
    "tasks:submit",
    "tasks:read",
    "tasks:cancel",
    "tasks:admin",
    "queues:write",
    "quotas:write",
    "schedules:write",
    "webhooks:write",
    "metrics:read",
)
CACHE_SECONDS: Final = 5.0
CACHE_ENTRIES: Final = 10_000
ID_LENGTH: Final = 12
SECRET_LENGTH: Final = 32
_BASE62: Final = string.digits + string.ascii_letters
_TOKEN: Final = re.compile(r"^tm_[!-~]{1,40}_([0-9A-Za-z]{8,16})_[0-9A-Za-z]{22,64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """What a valid token stands for; `request.auth` of the API.

    Attributes:
        scopes: the words of `SCOPES` that the key was given.
        rate_limit: the key's own limit such as `100/second`; empty for the installation's.
        watch: what a watch token, given instead of a key, covers; `key_id` then names its limits.
    """

    key_id: str
    tenant_id: int
    tenant_slug: str
    scopes: frozenset[str]
    rate_limit: str = ""
    watch: Watch | None = None


_cache: dict[str, tuple[float, Principal]] = {}
_revocation_ports: list[Callable[[str], None]] = []


def on_key_revoked(port: Callable[[str], None]) -> None:
    """Have a function called with the id of each key that this process revokes.

    It is called after the commit, must not raise, and only saves time: whoever serves a key looks
    at it again within seconds.
    """
    if port not in _revocation_ports:
        _revocation_ports.append(port)


def create_api_key(
    *,
    tenant: Tenant,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None = None,
    created_by: Any = None,
    rate_limit: str = "",
) -> tuple[ApiKey, str]:
    """Make a key with a random secret (190 bits); give it and its token, which is kept nowhere.

    Args:
        scopes: words of `SCOPES`.
        expires_at: aware instant after which the key is refused, or None.
        created_by: the operator's user row, or None.
        rate_limit: such as `100/second`; empty for the installation's default.

    Raises:
        ValidationFailed: a scope is unknown.
    """
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise ValidationFailed(f"unknown scope {', '.join(unknown)}; known: {', '.join(SCOPES)}")
    key_id, secret = _random(ID_LENGTH), _random(SECRET_LENGTH)
    token = f"tm_{conf().environment}_{key_id}_{secret}"
    key = ApiKey.objects.create(
        id=key_id,
        tenant=tenant,
        name=name,
        digest=digest_of(token),
        scopes=sorted(scopes),
        expires_at=expires_at,
        created_by=created_by,
        rate_limit=rate_limit,
    )
    return key, token


def revoke_api_key(*, key_id: str) -> bool:
    """Refuse a key from now on, in this process at once and in all others within `CACHE_SECONDS`.

    Returns:
        Whether it was in force until now.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE taskmill_api_key SET revoked_at = taskmill_now()"
            " WHERE id = %s AND revoked_at IS NULL",
            [key_id],
        )
        is_revoked: bool = cursor.rowcount == 1
    forget_principals()
    for port in _revocation_ports if is_revoked else ():
        transaction.on_commit(partial(port, key_id))
    return is_revoked


def forget_principals() -> None:
    """Empty this process's cache of found principals."""
    _cache.clear()


def find_caller(token: str) -> Principal:
    """Give the principal of a token.

    Raises:
        NotAuthenticated: the token is malformed, unknown, expired or revoked, or its
            tenant is inactive.

    Concurrency: thread-safe; one statement when the cache does not know the token, and one
        more once a minute.
    """
    found = _TOKEN.match(token)
    if found is None:
        raise NotAuthenticated
    digest = digest_of(token)
    entry = _cache.get(digest)
    if entry is not None and entry[0] > monotonic():
        return entry[1]
    return _look_up(found.group(1), digest)


def principal_of_key(key_id: str) -> Principal:
    """Give the principal of a key that was authenticated before; asks the database each time.

    Raises:
        NotAuthenticated: the key is not in force any more, or its tenant is inactive.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOOK_UP, [key_id])
        row = cursor.fetchone()
    if row is None or row[5] <= 0:
        raise NotAuthenticated
    return _principal(key_id, row)


def find_watcher(token: str) -> Principal:
    """Give the principal of a watch token: it may read, where the view looks at `watch`.

    Raises:
        NotAuthenticated: the token is forged, damaged or expired.
    """
    watch = read_watch_token(token)
    return Principal(
        key_id=watch.holder,
        tenant_id=watch.tenant_id,
        tenant_slug="",
        scopes=frozenset({"tasks:read"}),
        watch=watch,
    )


def digest_of(token: str) -> str:
    """Give the SHA-256 of a token in hex, as it is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


_LOOK_UP = """
SELECT k.digest, k.tenant_id, t.slug, k.scopes, k.rate_limit,
       coalesce(least(extract(epoch FROM k.expires_at - taskmill_now()), 3600), 3600)::float8,
       coalesce(k.last_used_at < taskmill_now() - interval '60 s', true)
FROM taskmill_api_key k JOIN taskmill_tenant t ON t.id = k.tenant_id
WHERE k.id = %s AND k.revoked_at IS NULL AND t.is_active
"""
_TOUCH = """
UPDATE taskmill_api_key SET last_used_at = taskmill_now() WHERE id = (
    SELECT id FROM taskmill_api_key
    WHERE id = %s AND coalesce(last_used_at < taskmill_now() - interval '60 s', true)
    FOR UPDATE SKIP LOCKED)
"""


def _look_up(key_id: str, digest: str) -> Principal:
    with connection.cursor() as cursor:
        cursor.execute(_LOOK_UP, [key_id])
        row = cursor.fetchone()
        stored = row[0] if row else "0" * 64
        is_same = hmac.compare_digest(stored, digest)
        if row is None or not is_same or row[5] <= 0:
            _cache.pop(digest, None)
            raise NotAuthenticated
        if row[6]:
            cursor.execute(_TOUCH, [key_id])
    principal = _principal(key_id, row)
    _remember(digest, principal, min(CACHE_SECONDS, row[5]))
    return principal


def _principal(key_id: str, row: Any) -> Principal:
    return Principal(
        key_id=key_id,
        tenant_id=row[1],
        tenant_slug=row[2],
        scopes=frozenset(row[3]),
        rate_limit=row[4],
    )


def _remember(digest: str, principal: Principal, seconds: float) -> None:
    if len(_cache) >= CACHE_ENTRIES:
        _cache.clear()
    _cache[digest] = (monotonic() + seconds, principal)


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))
