"""Who opens a WebSocket, and may they: read from the request that asks for the upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from django.conf import settings

from notifications.origins import is_allowed_origins
from notifications.tickets import redeem_ticket
from tasks_app.platform import (
    Forbidden,
    NotAuthenticated,
    Principal,
    ScopeMissing,
    find_watcher,
    principal_of_key,
)
from tasks_app.rest import authenticated

SCOPE: Final = "tasks:read"
_BEARER: Final = "bearer "


class Handshake:
    """The request behind a socket.

    Args:
        scope: the ASGI scope of the connection.
    """

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scheme: str = scope.get("scheme", "ws")
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.address = str((scope.get("client") or ("", 0))[0])
        query = scope.get("query_string", b"").decode("latin-1")
        self._query = parse_qs(query, max_num_fields=20, errors="replace") if query else {}

    def header(self, name: str) -> list[str]:
        """Give all values of a header; `name` in lower case."""
        wanted = name.encode()
        return [value.decode("latin-1") for key, value in self._headers if key == wanted]

    def parameter(self, name: str) -> str:
        """Give a parameter of the query; empty where it is missing."""
        values: list[str] = self._query.get(name, [""])
        return values[-1]

    @property
    def is_encrypted(self) -> bool:
        """Whether it came by TLS, as far as the proxy in front tells."""
        proxy: tuple[str, str] | None = settings.SECURE_PROXY_SSL_HEADER
        if proxy is None:
            return self._scheme == "wss"
        name, value = proxy
        found = self.header(name.removeprefix("HTTP_").replace("_", "-").lower())
        return bool(found) and found[0].split(",")[0].strip() == value


def principal_of(handshake: Handshake) -> Principal:
    """Give who opens the socket: by bearer header, one-time ticket or watch token.

    Raises:
        Forbidden: the page's origin is not allowed, or a token would go in the clear.
        NotAuthenticated: nothing valid was given.
        RateLimited: too many failures came from the address.
        ScopeMissing: the key may not read tasks.
        InfrastructureError: who it is cannot be looked up now.

    Concurrency: blocks; run it in a thread.
    """
    if not is_allowed_origins(handshake.header("origin")):
        raise Forbidden("pages of this origin may not open sockets")
    if settings.SECURE_SSL_REDIRECT and not handshake.is_encrypted:
        raise Forbidden("this connection is not encrypted")
    principal = _authenticated(handshake)
    if SCOPE not in principal.scopes:
        raise ScopeMissing(f"the key lacks the scope {SCOPE}")
    return principal


def _watcher(token: str) -> Principal:
    """Give who holds a watch token, which is worth no more than the key that it was made with."""
    principal = find_watcher(token)
    if principal.watch is not None:
        principal_of_key(principal.watch.key_id)
    return principal


def _authenticated(handshake: Handshake) -> Principal:
    for header in handshake.header("authorization"):
        if header[: len(_BEARER)].lower() != _BEARER:
            raise NotAuthenticated
        return authenticated(header[len(_BEARER) :].strip(), handshake.address)
    if ticket := handshake.parameter("ticket"):
        return redeem_ticket(ticket)
    if token := handshake.parameter("token"):
        return _watcher(token)
    raise NotAuthenticated
