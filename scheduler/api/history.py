"""`GET /stats/history`: the kept numbers of each hour."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from scheduler.reports.numbers import Numbers, hours_kept
from tasks_app.rest import ApiView, Operation, Parameter, Reply, invalid_parameter, read_text

WINDOW_SECONDS: Final = {"24h": 86_400, "7d": 604_800, "30d": 2_592_000}
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 200}


class HourOutcomes(BaseModel):
    """How many tasks ended how."""

    success: int
    failed: int
    error: int
    timeout: int
    cancelled: int


class HourShown(BaseModel):
    """The tasks that finished within an hour."""

    hour: AwareDatetime = Field(description="When it began.")
    finished: int
    by_status: HourOutcomes
    success_rate: float | None = Field(description="Cancelled ones aside, 0 to 1.")
    average_run_seconds: float | None
    average_wait_seconds: float | None


class History(BaseModel):
    """Hours in order; those in which nothing finished are left out."""

    window: Literal["24h", "7d", "30d"]
    results: list[HourShown]


class StatsHistory(ApiView):
    """`/stats/history`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="get_stats_history",
            tag="platform",
            summary="Numbers of each hour",
            description=(
                "How the caller's tasks ended that finished within an hour, as counted by the"
                " schedule `system.report_hourly` after its end."
            ),
            query=(
                Parameter(
                    name="window",
                    description="How far back.",
                    schema={"type": "string", "enum": list(WINDOW_SECONDS), "default": "24h"},
                ),
                Parameter(name="queue", description="Only of this queue.", schema=_TEXT),
                Parameter(name="type", description="Only of this task type.", schema=_TEXT),
            ),
            replies={200: Reply(description="The hours.", model=History)},
        )
    }

    def get(self, request: Request) -> Response:
        """Show the hours of the window."""
        window = request.query_params.get("window", "24h")
        if window not in WINDOW_SECONDS:
            raise invalid_parameter("window", "window must be 24h, 7d or 30d")
        found = hours_kept(
            tenant_id=self.caller.tenant_id,
            seconds=WINDOW_SECONDS[window],
            queue=read_text(request, "queue"),
            type_name=read_text(request, "type"),
        )
        rows = [{"hour": hour, **_shown(numbers)} for hour, numbers in found]
        return Response({"window": window, "results": rows})


def _shown(numbers: Numbers) -> dict[str, Any]:
    same = ("finished", "by_status", "success_rate", "average_run_seconds", "average_wait_seconds")
    return {name: getattr(numbers, name) for name in same}
