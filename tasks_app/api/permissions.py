"""What a caller may do: one scope per method, declared by the view."""

from __future__ import annotations

from typing import Any, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from typing_extensions import override

from tasks_app.errors import NotAuthenticated, ScopeMissing
from tasks_app.services.keys import Principal


class HasScope(BasePermission):
    """Lets a request pass whose key has the scope that `view.scopes` names for its method."""

    @override
    def has_permission(self, request: Request, view: Any) -> bool:
        """Say yes, or raise.

        Raises:
            NotAuthenticated: nobody is authenticated.
            ScopeMissing: the key lacks the scope; `scope` names it.
        """
        principal = cast("Principal | None", request.auth)
        if principal is None:
            raise NotAuthenticated
        method = "GET" if request.method == "HEAD" else request.method
        scope = view.scopes.get(method)
        if scope and scope not in principal.scopes:
            raise ScopeMissing(f"this call needs an API key with the scope {scope}", scope=scope)
        return True
