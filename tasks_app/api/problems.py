"""The one mapper from errors to answers: RFC 9457 `application/problem+json`.

For everything under /api and the probes; DRF's exception handler, Django's handler400/403/404/500
and the ASGI layer all end in `problem_response`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views import defaults
from rest_framework import exceptions

from tasks_app.api.answers import Problem
from tasks_app.api.renderers import to_json
from tasks_app.errors import (
    Forbidden,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    RequestError,
    StoreUnavailable,
    TaskmillError,
    UnsupportedMediaType,
    title_of,
)
from tasks_app.telemetry import logger

CONTENT_TYPE: Final = "application/problem+json"
RESERVED: Final = frozenset(Problem.model_fields)
_HOST_REFUSED: Final = "This host name is not served; TASKMILL_ALLOWED_HOSTS lists those that are."
_INNER_FIELDS: Final = frozenset({"retry_after", "is_token_missing", "allow"})
_log = logger(__name__)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """Turn what a view raised into its answer (DRF's EXCEPTION_HANDLER)."""
    request = context["request"]._request  # noqa: SLF001 - DRF keeps Django's request there
    return problem_response(translate(error, context.get("view")), request)


def translate(error: Exception, view: Any = None) -> TaskmillError:
    """Give the error of our tree that an exception of Django, DRF or the database stands for."""
    if isinstance(error, TaskmillError):
        return error
    if isinstance(error, OperationalError | InterfaceError):
        _log.warning("store unavailable", error=str(error).split("\n")[0])
        return StoreUnavailable()
    if isinstance(error, exceptions.MethodNotAllowed):
        allowed = ", ".join(view.allowed_methods) if view is not None else ""
        return MethodNotAllowed(allow=allowed)
    for kind, ours in _TRANSLATIONS:
        if isinstance(error, kind):
            return ours()
    if isinstance(error, exceptions.APIException | SuspiciousOperation):
        return RequestError(str(error) or None)
    _log.error("request failed", exc_info=error)
    return TaskmillError("Something went wrong on our side; the request id names it in our log.")


_TRANSLATIONS: Final[tuple[tuple[type[Exception], type[TaskmillError]], ...]] = (
    (Http404, NotFound),
    (exceptions.NotFound, NotFound),
    (PermissionDenied, Forbidden),
    (exceptions.PermissionDenied, Forbidden),
    (exceptions.NotAuthenticated, NotAuthenticated),
    (exceptions.AuthenticationFailed, NotAuthenticated),
    (exceptions.UnsupportedMediaType, UnsupportedMediaType),
    (RequestDataTooBig, PayloadTooLarge),
)


def problem_type(code: str) -> str:
    """Give the URI of a problem's kind; it opens the page that explains it."""
    return f"{settings.PUBLIC_URL}/docs/errors#{code}"


def problem_body(error: TaskmillError, *, instance: str, request_id: str) -> dict[str, Any]:
    """Give the problem object; the error's own fields follow as extension members."""
    body: dict[str, Any] = {
        "type": problem_type(error.code),
        "title": title_of(type(error)),
        "status": error.http_status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
        "errors": error.fields.get("errors", []),
    }
    extra = {name: value for name, value in error.fields.items() if name not in _INNER_FIELDS}
    return body | {name: value for name, value in extra.items() if name not in RESERVED}


def problem_headers(error: TaskmillError) -> dict[str, str]:
    """Give an error's headers: when to retry, what is allowed, how to authenticate."""
    headers = {"Cache-Control": "no-store"}
    if error.is_retryable or "retry_after" in error.fields:
        headers["Retry-After"] = str(error.fields.get("retry_after", 1))
    if isinstance(error, NotAuthenticated):
        reason = "" if error.fields.get("is_token_missing") else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="taskmill"{reason}'
    if error.fields.get("allow"):
        headers["Allow"] = str(error.fields["allow"])
    return headers


def problem_response(error: TaskmillError, request: HttpRequest) -> HttpResponse:
    """Give the whole answer."""
    body = problem_body(error, instance=request.path, request_id=getattr(request, "request_id", ""))
    return HttpResponse(
        to_json(body),
        status=error.http_status,
        content_type=CONTENT_TYPE,
        headers=problem_headers(error),
    )


def is_api(request: HttpRequest) -> bool:
    """Say whether a path answers problems as JSON; the rest of the site answers HTML."""
    return request.path.startswith(("/api", "/health", "/livez", "/readyz", "/metrics"))


def bad_request(request: HttpRequest, exception: Exception) -> Any:
    """Answer 400 (Django's handler400)."""
    if is_api(request):
        message = _HOST_REFUSED if isinstance(exception, DisallowedHost) else None
        return problem_response(RequestError(message), request)
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> Any:
    """Answer 403 (Django's handler403)."""
    if is_api(request):
        return problem_response(Forbidden(), request)
    return defaults.permission_denied(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> Any:
    """Answer 404 (Django's handler404)."""
    if is_api(request):
        return problem_response(NotFound(), request)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> Any:
    """Answer 500 (Django's handler500), or 503 where the database is what failed."""
    import sys

    error = sys.exc_info()[1]
    if is_api(request):
        found = translate(error) if isinstance(error, Exception) else TaskmillError()
        return problem_response(found, request)
    return defaults.server_error(request)
