"""One-time tickets: a browser's way to open a WebSocket without an API key in its page.

A ticket lives in Redis, which every web process shares, under its digest, and stands for the key
that asked for it. `GETDEL` gives it to one taker, whichever process asks first. Losing Redis loses
tickets of the last seconds, and their holders ask for new ones: no right is kept there that the
database does not confirm when the ticket is used.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache
from typing import Final

import redis
from django.conf import settings
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from notifications.conf import notifications_conf
from tasks_app.platform import InfrastructureError, NotAuthenticated, Principal, principal_of_key

PREFIX: Final = "tmt_"
SECRET_BYTES: Final = 24
MOST_CHARACTERS: Final = 64
TIMEOUT_SECONDS: Final = 1.0
_NO_ANSWER: Final = "the store of tickets does not answer"


def make_ticket(principal: Principal) -> tuple[str, datetime]:
    """Give a ticket for the holder of an API key, and when it expires.

    Raises:
        InfrastructureError: Redis does not answer.
    """
    ticket = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    seconds = notifications_conf().ws_ticket_seconds
    expires_at = timezone.now().replace(microsecond=0) + timedelta(seconds=seconds)
    try:
        _store().set(_name(ticket), principal.key_id, ex=seconds, nx=True)
    except redis.RedisError as error:
        raise InfrastructureError(_NO_ANSWER) from error
    return ticket, expires_at


def redeem_ticket(ticket: str) -> Principal:
    """Use a ticket up and give who it stands for.

    Raises:
        NotAuthenticated: it is unknown, used or expired, or its key is not in force any more.
        InfrastructureError: Redis does not answer.

    Concurrency: of any number of takers in any processes, one gets the principal.
    """
    if not ticket.startswith(PREFIX) or len(ticket) > MOST_CHARACTERS:
        raise NotAuthenticated
    try:
        key_id = _store().getdel(_name(ticket))
    except redis.RedisError as error:
        raise InfrastructureError(_NO_ANSWER) from error
    if not isinstance(key_id, bytes):
        raise NotAuthenticated
    return principal_of_key(key_id.decode())


def _name(ticket: str) -> str:
    return f"taskmill-ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


def _store() -> redis.Redis:
    return _client(settings.REDIS_URL.split(";", maxsplit=1)[0].strip())


@cache
def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )
