"""The address of the AsyncAPI document."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from notifications.asyncapi.document import asyncapi_document
from tasks_app.rest import readers_only, reads_only


@reads_only
@readers_only
def asyncapi(_request: HttpRequest) -> HttpResponse:
    """Give the AsyncAPI 3.1 document."""
    return HttpResponse(asyncapi_document(), content_type="application/vnd.aai.asyncapi+json")
