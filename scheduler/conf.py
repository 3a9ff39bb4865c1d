"""The settings of the scheduler: `TASKMILL_SCHEDULER_<NAME>`, read through `conf()`."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from tasks_app.conf import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConf:
    """How schedules are fired."""

    poll_seconds: float = setting(
        1.0,
        "Seconds between looks of a beat when nothing is due and no notification came.",
        least=0.05,
        most=5,
    )
    grace_seconds: float = setting(
        30.0,
        "Seconds after its instant up to which a firing counts as in time; later ones follow the "
        "schedule's catch-up policy.",
        least=1,
        most=86_400,
    )
    catch_up_hours: float = setting(
        24.0,
        "Hours of an outage of which every due instant gets a row of its own; what is older is one "
        "row.",
        least=0.1,
        most=8760,
    )
    batch: int = setting(
        200, "Schedules that one transaction of a beat fires at most.", least=1, most=5000
    )
    instants_most: int = setting(
        1000,
        "Due instants after which a transaction ends, whatever else is due; of one schedule it "
        "records at most as many.",
        least=200,
        most=100_000,
    )
    firing_days: float = setting(
        30.0,
        "Days the record of a due instant is kept; the latest of each schedule stays.",
        least=1,
        most=36_500,
    )
    publish_lease_seconds: float = setting(
        60.0,
        "Seconds after which a plain Celery task is published again whose beat died meanwhile.",
        least=5,
        most=3600,
    )


def conf() -> SchedulerConf:
    """Give the settings in force."""
    found: SchedulerConf = settings.SCHEDULER
    return found
