"""Django system checks of the settings of this app; the ids are stable."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error

from notifications.egress import faults_of
from notifications.webhooks.conf import webhooks_conf


@checks.register("taskmill")
def check_webhooks(**_: Any) -> list[CheckMessage]:
    """notifications.E001: a setting of the receivers that may be reached means nothing."""
    return [
        Error(
            f"TASKMILL_WEBHOOK settings: {fault} means nothing.",
            hint="ALLOW takes networks and host names, SCHEMES http and https, PORTS numbers.",
            id="notifications.E001",
        )
        for fault in faults_of(webhooks_conf())
    ]
