"""Who opens a connection: the bearer token of a header, or `access_token` as browsers send it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from rest_framework.request import Request
from typing_extensions import override

from notifications.origins import is_allowed_origin
from notifications.threads import in_thread
from tasks_app.errors import Forbidden, NotAuthenticated, ScopeMissing
from tasks_app.platform import Principal, find_watcher
from tasks_app.rest import WatchAuthentication, authenticated

SCOPE: Final = "tasks:read"
_SCHEME: Final = "bearer "
_WATCH_PREFIX: Final = "tmw_"


class HubAuthentication(WatchAuthentication):
    """Takes an API key or a watch token from the header."""

    @override
    def authenticate(self, request: Request) -> tuple[Any, Principal]:
        """Give `(None, principal)`.

        Raises:
            NotAuthenticated: there is no token, or not one in force.
            RateLimited: too many tokens from this address were not.
        """
        token = _bearer(request.META.get("HTTP_AUTHORIZATION", ""))
        if token.startswith(_WATCH_PREFIX):
            return None, find_watcher(token)
        return super().authenticate(request)


def check_origin(origin: str | None) -> None:
    """Refuse pages of other origins.

    Raises:
        Forbidden: the origin is not in the list.
    """
    if not is_allowed_origin(origin):
        raise Forbidden("pages of this origin may not connect (TASKMILL_ALLOWED_ORIGINS)")


async def principal_of_socket(scope: Mapping[str, Any]) -> Principal:
    """Give for whom a WebSocket is opened.

    Raises:
        Forbidden: a page of another origin opens it.
        NotAuthenticated: there is no token, or not one in force.
        ScopeMissing: the key may not read tasks.
        RateLimited: too many tokens from this address were not in force.
        StoreUnavailable: the database does not answer.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    check_origin(headers.get(b"origin"))
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=20)
    token = _bearer(headers.get(b"authorization", "")) or query.get("access_token", [""])[0]
    if not token:
        raise NotAuthenticated(is_token_missing=True)
    if token.startswith(_WATCH_PREFIX):
        return find_watcher(token)
    address = (scope.get("client") or ("",))[0]
    principal = await in_thread(authenticated, token, address)
    if SCOPE not in principal.scopes:
        raise ScopeMissing(f"this hub needs an API key with the scope {SCOPE}", scope=SCOPE)
    return principal


def _bearer(header: str) -> str:
    is_bearer = header[: len(_SCHEME)].lower() == _SCHEME
    return header[len(_SCHEME) :].strip() if is_bearer else ""
