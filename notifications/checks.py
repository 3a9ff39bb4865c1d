"""Django system checks of the settings of this app; the ids are stable."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error

from notifications.egress import EgressConf, faults_of
from notifications.http_requests.conf import http_request_conf
from notifications.webhooks.conf import webhooks_conf


@checks.register("taskmill")
def check_webhooks(**_: Any) -> list[CheckMessage]:
    """notifications.E001: a setting of the receivers that may be reached means nothing."""
    return _faults("TASKMILL_WEBHOOK", webhooks_conf(), "notifications.E001")


@checks.register("taskmill")
def check_http_requests(**_: Any) -> list[CheckMessage]:
    """notifications.E002: a setting of the services that may be called means nothing."""
    return _faults("TASKMILL_HTTP_REQUEST", http_request_conf(), "notifications.E002")


def _faults(names: str, conf: EgressConf, check_id: str) -> list[CheckMessage]:
    return [
        Error(
            f"{names} settings: {fault} means nothing.",
            hint="ALLOW takes networks and host names, SCHEMES http and https, PORTS numbers.",
            id=check_id,
        )
        for fault in faults_of(conf)
    ]
