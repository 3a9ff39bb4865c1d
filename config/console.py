"""The operators' admin site: Django's, with a bound on guesses at passwords.

Attempts are counted where requests of the API are (`tasks_app.api.throttling`): in Redis for all
web processes, in each alone while Redis is away. They are counted before the password is looked at,
so that no number of attempts at a time gets past; a login that succeeds forgets those of its user
from its address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import limits
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from typing_extensions import override

from tasks_app.api.failures import site_of
from tasks_app.api.throttling import request_limiter

OF_USER_FROM_ADDRESS: Final = limits.parse("10 per 5 minutes")
FROM_ADDRESS: Final = limits.parse("100 per 5 minutes")
OF_USER: Final = limits.parse("150 per hour")
"""From all addresses; wide, since whoever knows a name can use it up. Below 200, or the limiter
takes attempts by the block and loses the rest of it."""


class LoginForm(AdminAuthenticationForm):
    """Looks at a password unless too many were tried.

    Attributes:
        seconds_to_wait: where too many were.
    """

    seconds_to_wait = 0

    @override
    def clean(self) -> dict[str, Any]:
        """Authenticate, or say how long to wait."""
        user = self.cleaned_data.get("username")
        if user is None or self.request is None:
            return super().clean()
        address = self.request.META.get("REMOTE_ADDR") or ""
        for name, rate in _windows(address, user):
            allowance = request_limiter().hit(name, rate)
            if not allowance.is_granted:
                self.seconds_to_wait = allowance.reset_seconds
                raise ValidationError(
                    f"Too many failed logins. Wait {allowance.reset_seconds} seconds.",
                    code="rate_limited",
                )
        cleaned = super().clean()
        request_limiter().forget(_of_user_from_address(address, user), OF_USER_FROM_ADDRESS)
        return cleaned


def _windows(address: str, user: str) -> Iterator[tuple[str, limits.RateLimitItem]]:
    yield f"login {site_of(address)}", FROM_ADDRESS
    yield _of_user_from_address(address, user), OF_USER_FROM_ADDRESS
    yield f"login {_digest(user)}", OF_USER


def _of_user_from_address(address: str, user: str) -> str:
    return f"login {site_of(address)} {_digest(user)}"


def _digest(user: str) -> str:
    return hashlib.sha256(user.casefold().encode()).hexdigest()


class ConsoleSite(AdminSite):
    """The site of `/admin/`."""

    login_form = LoginForm

    @override
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form or log in; 429 with `Retry-After` where too many failed."""
        response = super().login(request, extra_context)
        form = (getattr(response, "context_data", None) or {}).get("form")
        if isinstance(form, LoginForm) and form.seconds_to_wait:
            response.status_code = 429
            response.headers["Retry-After"] = str(form.seconds_to_wait)
        return response
