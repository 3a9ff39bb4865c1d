"""The base of every API view: authentication, rate limit, scope, JSON in, JSON or a problem out.

A view declares `scopes`, reads `self.caller`, `request.auth` and `request.data`, and raises
`tasks_app.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.datastructures import MultiValueDict
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from typing_extensions import override

from tasks_app.api.operation import Operation
from tasks_app.api.pagination import invalid_parameter
from tasks_app.api.parsers import JSONParser
from tasks_app.api.renderers import JSONRenderer
from tasks_app.api.throttling import Allowance
from tasks_app.errors import HandlerDeclarationError, UnsupportedMediaType
from tasks_app.services.caller import Caller
from tasks_app.services.json_values import invalid, unknown_fields
from tasks_app.services.keys import Principal

_RENDERER = JSONRenderer()
_JSON_TYPES = ("", "application/json", "application/merge-patch+json")
READ = "tasks:read"
_READS = ("GET", "HEAD")
_METHODS = ("get", "post", "put", "patch", "delete")


class ApiRequest(Request):
    """DRF's request with one way to read a body: JSON, bounded by the view."""

    def _load_data_and_files(self) -> None:
        kind = self._request.META.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
        if kind not in _JSON_TYPES and self._request.META.get("CONTENT_LENGTH") not in ("", "0"):
            raise UnsupportedMediaType
        data = JSONParser().parse(self._request, kind, self.parser_context)
        self._data = self._full_data = data
        self._files: MultiValueDict[str, Any] = MultiValueDict()


class ApiView(APIView):
    """An authenticated endpoint.

    Attributes:
        scopes: method (GET, POST, ...) -> the scope its caller needs, "" for any key. Every method
            of the view must be named.
        operations: method -> what the OpenAPI document says of it.
        max_body_bytes: largest body; None for one payload plus 64 KiB.
        is_public: answers without a key (probes); then neither scope nor rate limit applies.
    """

    scopes: ClassVar[Mapping[str, str]] = {}
    operations: ClassVar[Mapping[str, Operation]] = {}
    max_body_bytes: ClassVar[int | None] = None
    is_public: ClassVar[bool] = False
    request: Request
    allowance: Allowance | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        methods = {name.upper() for name in _METHODS if hasattr(cls, name)}
        missing = sorted(methods - set(cls.scopes))
        if missing and not cls.is_public:
            raise HandlerDeclarationError(
                f"{cls.__name__}.scopes names no scope for {', '.join(missing)}"
            )

    @property
    def caller(self) -> Caller:
        """For whom the services act."""
        return Caller(tenant_id=self.principal.tenant_id, actor=f"api:{self.principal.key_id}")

    @property
    def principal(self) -> Principal:
        """The API key's principal; only where the view is not public."""
        return cast("Principal", self.request.auth)

    @property
    def is_reader(self) -> bool:
        """Whether the key may read tasks; others see receipts of what they act on."""
        return READ in self.principal.scopes

    @property
    def default_response_headers(self) -> dict[str, str]:
        """No headers of DRF's own: there is one representation, and `Allow` goes with a 405."""
        return {}

    @override
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer a request, and undo the circles that tie view, request and response together: they
        would keep both bodies until the next collection of garbage.
        """
        response = super().dispatch(request, *args, **kwargs)
        del self.response
        vars(self).pop("head", None)
        self.request.parser_context = {}
        return response

    @override
    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """Wrap Django's request."""
        authenticators = [] if self.is_public else self.get_authenticators()
        return ApiRequest(
            request,
            authenticators=authenticators,
            parser_context={"view": self, "request": request},
        )

    @override
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, count against the rate limit, check the scope and the names of the query;
        negotiate nothing.
        """
        self.perform_content_negotiation(request)
        if self.is_public:
            return
        self.perform_authentication(request)
        self.check_throttles(request)
        self.check_permissions(request)
        self._check_query(request)
        self._check_body(request)

    def _check_query(self, request: Request) -> None:
        """Refuse parameters that a read does not know: without a slip's filter it would give all.

        Raises:
            ValidationFailed: the first of them.
        """
        operation = self.operations.get("GET")
        if operation is None or request.method not in _READS:
            return
        known = {one.name for one in operation.query}
        for name in request.query_params:
            if name not in known:
                raise invalid_parameter(name[:100], "unknown parameter", "unknown")

    def _check_body(self, request: Request) -> None:
        """Refuse fields that are sent to a method which reads none: they would be lost.

        Raises:
            ValidationFailed: each field is named.
        """
        operation = self.operations.get(request.method or "")
        if operation is None or request.method in _READS or operation.takes_body:
            return
        if not isinstance(request.data, dict):
            raise invalid("", "no_body", "this call takes no body; send none")
        if request.data:
            raise unknown_fields(request.data)

    @override
    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        """Choose JSON, whatever `Accept` says."""
        request.accepted_renderer = _RENDERER
        request.accepted_media_type = _RENDERER.media_type
        return _RENDERER, _RENDERER.media_type

    @override
    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        """Add the rate limit's headers and forbid caches to keep what one key may see."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if self.allowance is not None:
            for name, value in self.allowance.headers().items():
                final[name] = value
        final.headers.setdefault("Cache-Control", "no-store")
        return final

    @override
    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Say which methods there are."""
        return Response(status=204, headers={"Allow": ", ".join(self.allowed_methods)})
