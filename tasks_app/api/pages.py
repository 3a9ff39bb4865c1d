"""The pages for people: the front page, the API's documentation, and what each error means.

No script of ours is inline; the content security policy forbids it. The API's documentation needs
a login as staff, or an API key.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from tasks_app.api.failures import authenticated
from tasks_app.api.problems import problem_response, reads_only
from tasks_app.api.schema import openapi_document
from tasks_app.errors import NotAuthenticated, RateLimited, known_problems

STRICT: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
DOCS: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'"
)
View = Callable[[HttpRequest], HttpResponse]


def readers_only(view: View) -> View:
    """Let staff sessions and API keys pass; send browsers to the login, others a 401."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            try:
                authenticated(token.strip(), request.META.get("REMOTE_ADDR") or "")
            except (NotAuthenticated, RateLimited) as error:
                return problem_response(error, request)
            return view(request)
        if request.user.is_authenticated and request.user.is_staff:
            return view(request)
        if "text/html" in request.headers.get("Accept", ""):
            return redirect_to_login(request.get_full_path(), "/admin/login/")
        return problem_response(NotAuthenticated(is_token_missing=True), request)

    return guarded


def _page(request: HttpRequest, name: str, policy: str, context: dict[str, Any]) -> HttpResponse:
    response = render(request, f"tasks_app/{name}.html", context)
    response.headers["Content-Security-Policy"] = policy
    return response


@reads_only
def front(request: HttpRequest) -> HttpResponse:
    """Say what this is, where things are, and how to submit the first task."""
    return _page(request, "front", STRICT, {"public_url": settings.PUBLIC_URL})


@reads_only
def error_reference(request: HttpRequest) -> HttpResponse:
    """Explain every error code; the `type` of a problem leads here."""
    return _page(request, "errors", STRICT, {"problems": known_problems()})


@reads_only
@readers_only
def schema(_request: HttpRequest) -> HttpResponse:
    """Give the OpenAPI 3.1 document."""
    return HttpResponse(openapi_document(), content_type="application/vnd.oai.openapi+json")


@reads_only
@readers_only
def swagger(request: HttpRequest) -> HttpResponse:
    """Show the API for trying it out."""
    return _page(request, "swagger", DOCS, {})


@reads_only
@readers_only
def redoc(request: HttpRequest) -> HttpResponse:
    """Show the API for reading."""
    return _page(request, "redoc", DOCS, {})
