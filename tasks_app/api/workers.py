"""`GET /workers`: who runs tasks."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import WorkerList
from tasks_app.api.operation import Operation, Reply
from tasks_app.api.views import ApiView
from tasks_app.selectors.platform import workers_known


class WorkersView(ApiView):
    """The workers of the installation, those lost since the last clean-up included."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_workers",
            tag="platform",
            summary="List the workers",
            description="Newest sign of life first, at most 1,000; lost ones are listed too.",
            replies={200: Reply(description="The workers.", model=WorkerList)},
        )
    }

    def get(self, _request: Request) -> Response:
        """List them, newest sign of life first, at most 1,000."""
        return Response({"results": workers_known(), "next": None, "previous": None})
