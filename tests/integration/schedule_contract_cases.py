"""How the contract test calls the operations of schedules, so that each gives all its successes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from scheduler.models import HourNumbers
from tests.beats import clock_shifted, database_now, tick

_numbers = itertools.count(1)
HOURLY = {"type": "tests.echo", "cron": "0 * * * *", "timezone": "Europe/Berlin"}


def made(world: Any, **fields: Any) -> str:
    body = {"key": f"s-{next(_numbers)}"} | (fields or HOURLY)
    answer = world.api.post("/schedules", body)
    assert answer.status_code == 201, answer.content
    return f"/schedules/{answer.json()['id']}"


def list_schedules(call: Any, world: Any) -> None:
    made(world)
    made(world, type="tests.echo", interval_seconds=1.5, start_at="2027-01-01T00:00:00Z")
    first = call("/schedules?limit=1&status=active&q=s-").json()
    assert len(first["results"]) == 1
    assert len(call(first["next"].partition("/api/v1")[2]).json()["results"]) == 1
    call("/schedules?status=tired")


def create_schedule(call: Any, world: Any) -> None:
    policies = {"overlap": "queue_one", "catch_up": "all", "catch_up_most": 3, "spread": "stable"}
    more = {"spread_seconds": 5, "expire_seconds": 60, "pause_after_failures": 2}
    options = {"queue": "mail", "priority": 3, "tags": ["a"], "unique": {"key": "k"}}
    call(
        "/schedules",
        HOURLY | policies | more | {"key": "a", "options": options, "payload": {"a": 1}},
    )
    call("/schedules", HOURLY | {"key": "a"})
    call("/schedules", HOURLY | {"key": "b", "cron": "0 0 31 2 *"})
    call("/schedules", HOURLY | {"key": "c", "type": "no.such"})


def get_schedule(call: Any, world: Any) -> None:
    call(made(world))
    once = made(world, type="tests.echo", once_at="2099-01-01T00:00:00+01:00", payload=None)
    call(once)


def revise_schedule(call: Any, world: Any) -> None:
    path = made(world)
    call(path, {"interval_seconds": 60, "overlap": None, "description": "d", "payload": {"a": 1}})
    call(path, {"type": None})


def delete_schedule(call: Any, world: Any) -> None:
    call(made(world))


def run_schedule(call: Any, world: Any) -> None:
    call(made(world) + "/run")
    path = made(world, type="tests.echo", interval_seconds=60, options={"unique": {"key": "k"}})
    call(path + "/run", {})
    call(path + "/run")


def pause_schedule(call: Any, world: Any) -> None:
    path = made(world) + "/pause"
    call(path, {"reason": "stocktaking"})
    call(path)


def resume_schedule(call: Any, world: Any) -> None:
    path = made(world)
    world.api.post(path + "/pause")
    call(path + "/resume")
    call(path + "/resume", {})


def list_schedule_firings(call: Any, world: Any) -> None:
    path = made(world, type="tests.echo", interval_seconds=60, catch_up="all")
    with clock_shifted(200):
        tick()
    first = call(path + "/firings?limit=2&outcome=fired").json()
    assert len(first["results"]) == 2
    second = call(first["next"].partition("/api/v1")[2]).json()
    assert len(second["results"]) == 1
    call(second["previous"].partition("/api/v1")[2])


def preview_schedule(call: Any, world: Any) -> None:
    call("/schedules/preview", {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "count": 3})
    call("/schedules/preview", {"interval_seconds": 2.5, "after": "2027-01-01T00:00:00Z"})
    call("/schedules/preview", {"cron": "61 * * * *"})


def get_stats_history(call: Any, world: Any) -> None:
    HourNumbers.objects.create(
        hour=database_now(), tenant=world.tenant, queue="q", type="t", success=1, run_count=1
    )
    assert call("/stats/history?window=7d&queue=q&type=t").json()["results"]
    call("/stats/history?window=1y")


SCHEDULE_CASES: dict[str, Callable[[Any, Any], None]] = {
    case.__name__: case
    for case in (
        list_schedules,
        create_schedule,
        get_schedule,
        revise_schedule,
        delete_schedule,
        run_schedule,
        pause_schedule,
        resume_schedule,
        list_schedule_firings,
        preview_schedule,
        get_stats_history,
    )
}
