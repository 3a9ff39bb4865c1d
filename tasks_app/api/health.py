"""Probes: alive, ready, and the health of every part. Public, without secrets."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import Health, Probe
from tasks_app.api.operation import Operation, Reply
from tasks_app.api.views import ApiView
from tasks_app.services.health import check_database, check_health


class LiveView(ApiView):
    """Whether this web process answers at all."""

    is_public = True
    operations = {
        "GET": Operation(
            name="check_alive",
            tag="platform",
            summary="Is this web process alive?",
            description="Answers without looking at anything else.",
            replies={200: Reply(description="It is.", model=Probe)},
        )
    }

    def get(self, _request: Request) -> Response:
        """Say yes."""
        return Response({"status": "ok"})


class ReadyView(ApiView):
    """Whether this web process can accept tasks, which takes the database alone."""

    is_public = True
    operations = {
        "GET": Operation(
            name="check_ready",
            tag="platform",
            summary="Can this web process accept tasks?",
            description="Which takes the database alone.",
            replies={
                200: Reply(description="It can.", model=Probe),
                503: Reply(description="The database does not answer.", model=Probe),
            },
        )
    }

    def get(self, _request: Request) -> Response:
        """Answer 200, or 503 without the database."""
        part = check_database()
        status = "ok" if part.is_ok else "unavailable"
        return Response({"status": status}, status=200 if part.is_ok else 503)


class HealthView(ApiView):
    """How every part of the platform is."""

    is_public = True
    operations = {
        "GET": Operation(
            name="check_health",
            tag="platform",
            summary="How is every part of the platform?",
            description=(
                "Database, broker, cache, engine, workers and beat; kept for two seconds."
                " Ask `/readyz` whether a web process can take requests."
            ),
            replies={
                200: Reply(description="All is well.", model=Health),
                503: Reply(description="A part is missing; `parts` names it.", model=Health),
            },
        )
    }

    def get(self, _request: Request) -> Response:
        """Answer 200 where all is well, 503 where a part is missing; the body names it."""
        parts = check_health()
        is_ok = all(part.is_ok for part in parts.values())
        body = {
            "status": "ok" if is_ok else "unavailable",
            "parts": {
                name: {
                    "status": "ok" if part.is_ok else "unavailable",
                    "detail": part.detail,
                    "check_ms": part.milliseconds,
                    **part.facts,
                }
                for name, part in parts.items()
            },
        }
        return Response(body, status=200 if is_ok else 503)
