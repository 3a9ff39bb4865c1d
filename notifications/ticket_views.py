"""Asking for a one-time ticket."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from pydantic import AwareDatetime, BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from notifications.tickets import make_ticket
from tasks_app.platform import InfrastructureError
from tasks_app.rest import ApiView, Operation, Reply


class SocketTicket(BaseModel):
    """A ticket that opens one WebSocket, once."""

    ticket: str = Field(description="Give it as `?ticket=`.")
    expires_at: AwareDatetime
    ws_url: str = Field(description="Where to connect, the ticket included.")


class SocketTickets(ApiView):
    """`POST /ws-tickets`."""

    scopes = {"POST": "tasks:read"}
    operations = {
        "POST": Operation(
            name="create_ws_ticket",
            tag="streams",
            summary="Make a one-time ticket for a WebSocket",
            description="It opens one WebSocket with the rights of this key to read, for a page "
            "that must not know the key. It works once and expires after 30 seconds.",
            replies={201: Reply(description="The ticket.", model=SocketTicket)},
            problems=(InfrastructureError,),
        )
    }

    def post(self, _request: Request, **_: Any) -> Response:
        """Make a ticket for the caller's key."""
        ticket, expires_at = make_ticket(self.principal)
        root: str = settings.PUBLIC_URL
        url = f"ws{root.removeprefix('http')}/ws/v1/events?ticket={ticket}"
        body = {"ticket": ticket, "expires_at": expires_at, "ws_url": url}
        return Response(body, status=201)
