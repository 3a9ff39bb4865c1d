"""Django system checks of the platform's configuration, run by `manage.py check` and many commands.

Values alone are judged here; what takes a connection belongs to `manage.py doctor`. The ids are
stable and stand in docs/reference/settings.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error

from tasks_app.conf import TasksConf, conf
from tasks_app.registry import QUEUE_PATTERN

_RATE: Final = re.compile(r"^[1-9][0-9]*/(second|minute|hour|day)$")
_ENVIRONMENT: Final = re.compile(r"^[a-z0-9]{1,20}$")


@checks.register("taskmill")
def check_configuration(**_: Any) -> list[CheckMessage]:
    """Run every check of this module."""
    found = conf()
    return [
        *check_lease(found),
        *check_grace(found),
        *check_window(found),
        *check_rate_limit(found.rate_limit),
        *check_queues(found.queues),
        *check_environment(found.environment),
        *check_metrics_access(found.metrics_access),
        *check_hosts(settings.ALLOWED_HOSTS),
        *check_names(settings.MISSPELT_VARIABLES),
    ]


def check_lease(found: TasksConf) -> list[CheckMessage]:
    """E001: a worker has to renew (every third of the lease) before it stops trusting the lease."""
    if found.lease_margin_seconds * 3 < found.lease_seconds * 2:
        return []
    return [
        Error(
            "TASKMILL_LEASE_MARGIN_SECONDS leaves no time to renew a lease.",
            hint=f"Make it less than two thirds of TASKMILL_LEASE_SECONDS ({found.lease_seconds}).",
            id="taskmill.E001",
        )
    ]


def check_grace(found: TasksConf) -> list[CheckMessage]:
    """W001: a task is run again before its lost worker has surely killed it."""
    if found.lease_grace_seconds + found.lease_margin_seconds >= found.kill_grace_seconds:
        return []
    return [
        checks.Warning(
            "A lost task can be started again while its first attempt is still being killed.",
            hint="Raise TASKMILL_LEASE_GRACE_SECONDS or TASKMILL_LEASE_MARGIN_SECONDS above "
            f"TASKMILL_KILL_GRACE_SECONDS ({found.kill_grace_seconds}).",
            id="taskmill.W001",
        )
    ]


def check_window(found: TasksConf) -> list[CheckMessage]:
    """E002: the window of a queue needs a least that is not above its most."""
    if found.window_least <= found.window_most:
        return []
    return [
        Error(
            "TASKMILL_WINDOW_LEAST is larger than TASKMILL_WINDOW_MOST.",
            hint="Swap them, or unset both.",
            id="taskmill.E002",
        )
    ]


def check_rate_limit(value: str) -> list[CheckMessage]:
    """E003: the rate limit has to be a number per unit."""
    if not value or _RATE.match(value):
        return []
    return [
        Error(
            f"TASKMILL_RATE_LIMIT is {value!r}, which is no rate.",
            hint="Write N/second, N/minute, N/hour or N/day, such as 6000/minute.",
            id="taskmill.E003",
        )
    ]


def check_queues(names: Sequence[str]) -> list[CheckMessage]:
    """E004: queue names travel to the broker."""
    return [
        Error(
            f"TASKMILL_QUEUES names {name!r}, which is no queue name.",
            hint="Use lower-case letters, digits, dots, underscores and hyphens.",
            id="taskmill.E004",
        )
        for name in names
        if not QUEUE_PATTERN.match(name)
    ]


def check_environment(value: str) -> list[CheckMessage]:
    """E005: the word in API keys has to leave the parts of a key recognisable."""
    if _ENVIRONMENT.match(value):
        return []
    return [
        Error(
            f"TASKMILL_ENVIRONMENT is {value!r}, which cannot stand in an API key.",
            hint="Use 1 to 20 lower-case letters and digits, such as live or staging.",
            id="taskmill.E005",
        )
    ]


def check_metrics_access(value: str) -> list[CheckMessage]:
    """E006: a word that is not known would be taken for `key`, against what was meant."""
    if value in {"key", "open"}:
        return []
    return [
        Error(
            f"TASKMILL_METRICS_ACCESS is {value!r}, which is neither key nor open.",
            hint="Unset it for key.",
            id="taskmill.E006",
        )
    ]


def check_hosts(names: Sequence[str]) -> list[CheckMessage]:
    """W002: any host name is accepted, so links can be forged by the Host header."""
    if "*" not in names:
        return []
    return [
        checks.Warning(
            "TASKMILL_ALLOWED_HOSTS accepts every host name.",
            hint="Name the hosts under which people reach this installation.",
            id="taskmill.W002",
        )
    ]


def check_names(misspelt: Mapping[str, str]) -> list[CheckMessage]:
    """W003: a setting whose name is wrong is read by nobody, and its default holds."""
    return [
        checks.Warning(
            f"{name} is set and is no setting.",
            hint=f"{meant} is one; docs/reference/environment.md and settings.md name them all.",
            id="taskmill.W003",
        )
        for name, meant in misspelt.items()
    ]
