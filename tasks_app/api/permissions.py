"""What a caller may do: one scope per method, declared by the view."""

from __future__ import annotations

from typing import Any, Final, cast

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from typing_extensions import override

from tasks_app.errors import NotAuthenticated, ScopeMissing
from tasks_app.services.keys import Principal

SYSTEM_PREFIX: Final = "system."
ADMIN: Final = "tasks:admin"


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


def check_task_type(principal: Principal, task_type: str) -> None:
    """Leave task types of the platform to administrators.

    Raises:
        ScopeMissing: it is one, and the key lacks the scope `tasks:admin`.
    """
    if task_type.startswith(SYSTEM_PREFIX) and ADMIN not in principal.scopes:
        raise ScopeMissing(
            f"tasks of the types {SYSTEM_PREFIX}* need an API key with the scope {ADMIN}",
            scope=ADMIN,
        )
