"""`POST /hubs/notifications/negotiate`: how a stock client learns of the only transport.

Nothing is kept: the WebSocket that follows may reach another web process, which asks for the token
itself.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response
from typing_extensions import override

from notifications.origins import is_allowed_origin
from notifications.signalr.access import SCOPE, HubAuthentication, check_origin
from tasks_app.rest import ApiView

VERSION: Final = 1
_TRANSPORTS: Final = [{"transport": "WebSockets", "transferFormats": ["Text"]}]
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type, x-requested-with, "
    "x-signalr-user-agent",
    "Access-Control-Max-Age": "600",
}


class NegotiateView(ApiView):
    """Answers the client's first request, also across origins from the allowed ones."""

    authentication_classes = [HubAuthentication]
    scopes = {"POST": SCOPE}

    @override
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse other origins before anything else; a preflight comes without a token."""
        self.perform_content_negotiation(request)
        check_origin(request.headers.get("Origin"))
        if request.method != "OPTIONS":
            super().initial(request, *args, **kwargs)

    def post(self, request: Request) -> Response:
        """Name a connection and the transport."""
        connection_id = uuid.uuid4().hex
        answer: dict[str, Any] = {"connectionId": connection_id, "negotiateVersion": 0}
        if request.query_params.get("negotiateVersion", "0") not in {"", "0"}:
            answer |= {"connectionToken": uuid.uuid4().hex, "negotiateVersion": VERSION}
        return Response(answer | {"availableTransports": _TRANSPORTS})

    @override
    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Answer a preflight."""
        return Response(status=204, headers={"Allow": "OPTIONS, POST", **_PREFLIGHT})

    @override
    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        """Let pages of the allowed origins read the answer, a refusal included."""
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is not None and is_allowed_origin(origin):
            final["Access-Control-Allow-Origin"] = origin
            final["Access-Control-Allow-Credentials"] = "true"
        return final
