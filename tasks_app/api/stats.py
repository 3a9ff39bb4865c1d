"""`GET /stats`: how many tasks, how well and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import Stats
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pagination import invalid_parameter
from tasks_app.api.views import ApiView
from tasks_app.selectors import statistics
from tasks_app.selectors.statistics import (
    OVERALL,
    PER_QUEUE,
    PER_TYPE,
    WINDOW_SECONDS,
    finished_tasks_by_group,
    live_tasks_by_group,
    tasks_by_status,
)


class StatsView(ApiView):
    """Numbers about the caller's tasks.

    `totals` counts all kept tasks; `finished`, `queues` and `types` measure those submitted within
    the window. Counts stop at a cap per state and then say `capped`: the answer stays quick.
    """

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="get_stats",
            tag="platform",
            summary="Count and measure tasks",
            description=(
                "`totals` counts all kept tasks; `finished`, `queues` and `types` measure those"
                " submitted within the window. Counts stop at a cap and then say `capped`."
            ),
            query=(
                Parameter(
                    name="window",
                    description="How far back.",
                    schema={"type": "string", "enum": list(WINDOW_SECONDS), "default": "24h"},
                ),
            ),
            replies={200: Reply(description="The numbers.", model=Stats)},
        )
    }

    def get(self, request: Request) -> Response:
        """Answer for `?window=1h|24h|7d`, 24h by default."""
        window = request.query_params.get("window", "24h")
        if window not in WINDOW_SECONDS:
            raise invalid_parameter("window", "window must be 1h, 24h or 7d")
        tenant_id = self.caller.tenant_id
        totals = tasks_by_status(tenant_id=tenant_id)
        live = live_tasks_by_group(tenant_id=tenant_id)
        finished = finished_tasks_by_group(
            tenant_id=tenant_id, window_seconds=WINDOW_SECONDS[window]
        )
        overall = next(row for row in finished.rows if row["level"] == OVERALL)
        by_status = {row["status"]: row["count"] for row in totals.rows}
        return Response(
            {
                "window": window,
                "totals": {
                    "tasks": sum(by_status.values()),
                    "by_status": by_status,
                    "capped": totals.is_capped,
                },
                "finished": {**outcome(overall), "capped": finished.is_capped},
                "live": {"capped": live.is_capped},
                "queues": groups("queue", live, finished),
                "types": groups("type", live, finished),
            }
        )


def groups(name: str, live: statistics.Capped, finished: statistics.Capped) -> list[dict[str, Any]]:
    """Join what is live and what finished, per queue or per type."""
    level = PER_QUEUE if name == "queue" else PER_TYPE
    waiting = by_name(name, (row for row in live.rows if row[name] is not None))
    done = by_name(name, (row for row in finished.rows if row["level"] == level))
    return [
        {
            name: key,
            "pending": waiting.get(key, {}).get("pending", 0),
            "processing": waiting.get(key, {}).get("processing", 0),
            "finished": outcome(done.get(key)),
        }
        for key in sorted(waiting.keys() | done.keys())
    ]


def by_name(name: str, rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Index rows by their queue or type."""
    return {row[name]: row for row in rows}


_STATES = ("success", "failed", "error", "timeout", "cancelled")


def outcome(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give counts, the success rate (cancelled ones aside) and the times of a group, in seconds."""
    if row is None or not row["finished"]:
        empty = dict.fromkeys(("average", "p50", "p95", "p99"))
        by_status = dict.fromkeys(_STATES, 0)
        return {
            "count": 0,
            "by_status": by_status,
            "success_rate": None,
            "wait": empty,
            "run": empty,
        }
    judged = row["finished"] - row["cancelled"]
    return {
        "count": row["finished"],
        "by_status": {state: row[state] for state in _STATES},
        "success_rate": round(row["success"] / judged, 4) if judged else None,
        "wait": times(row["wait_average"], row["wait_percentiles"]),
        "run": times(row["run_average"], row["run_percentiles"]),
    }


def times(average: float | None, percentiles: list[float] | None) -> dict[str, float | None]:
    """Give average and percentiles in seconds, to the tenth of a millisecond."""
    p50, p95, p99 = percentiles or (None, None, None)
    values = {"average": average, "p50": p50, "p95": p95, "p99": p99}
    return {key: None if value is None else round(value, 4) for key, value in values.items()}
