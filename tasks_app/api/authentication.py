"""Who calls: a bearer token becomes `request.auth`, a `tasks_app.services.keys.Principal`."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from typing_extensions import override

from tasks_app.api.failures import authenticated
from tasks_app.errors import NotAuthenticated
from tasks_app.services.keys import Principal, find_watcher

SCHEME = "bearer "


class ApiKeyAuthentication(BaseAuthentication):
    """Reads `Authorization: Bearer tm_...`; tokens in the query are never looked at."""

    @override
    def authenticate(self, request: Request) -> tuple[Any, Principal]:
        """Give `(None, principal)`.

        Raises:
            NotAuthenticated: there is no token, or not one in force.
            RateLimited: too many tokens from this address were not.
        """
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if header[: len(SCHEME)].lower() != SCHEME:
            raise NotAuthenticated(is_token_missing=True)
        address = request.META.get("REMOTE_ADDR") or ""
        return None, authenticated(header[len(SCHEME) :].strip(), address)

    @override
    def authenticate_header(self, request: Request) -> str:
        """Give the challenge of a 401."""
        return 'Bearer realm="taskmill"'


class WatchAuthentication(ApiKeyAuthentication):
    """Also takes a watch token as `?token=`, to read; for views that look at `principal.watch`."""

    @override
    def authenticate(self, request: Request) -> tuple[Any, Principal]:
        """Give `(None, principal)`; see `ApiKeyAuthentication.authenticate`."""
        token = request.query_params.get("token")
        if token and request.method == "GET" and "HTTP_AUTHORIZATION" not in request.META:
            return None, find_watcher(token)
        return super().authenticate(request)
