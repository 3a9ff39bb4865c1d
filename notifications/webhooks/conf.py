"""The settings of webhooks: environment variables `TASKMILL_WEBHOOK_<NAME>`."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from tasks_app.conf import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhooksConf:
    """How webhooks are sent; variables `TASKMILL_WEBHOOK_<NAME>`."""

    allow: tuple[str, ...] = setting(
        (),
        "Receivers that may be reached though they are not public, comma separated: networks such "
        "as `10.1.0.0/16` and exact host names. Those named as host, and addresses in these "
        "networks written as such, may also use http and any port.",
    )
    schemes: tuple[str, ...] = setting(
        ("https",), "Schemes that public receivers may use: `https`, `http`."
    )
    ports: tuple[str, ...] = setting(
        ("443", "8443"), "Ports of public receivers beside 80 where http is allowed."
    )
    total_seconds: float = setting(
        15.0,
        "Seconds for one try in all: name, connection, TLS, request, answer.",
        least=0.1,
        most=60,
    )
    concurrency: int = setting(200, "Tries under way at a time.", least=1, most=5000)
    receiver_concurrency: int = setting(
        8,
        "Tries under way at a time to one endpoint, or one origin of task URLs.",
        least=1,
        most=500,
    )
    overlap_hours: float = setting(
        24.0,
        "Hours after a rotation during which the former secret signs too.",
        least=0,
        most=8760,
    )
    disable_days: float = setting(
        5.0, "Days without one success after which an endpoint is disabled.", least=0.01, most=365
    )
    retention_days: float = setting(
        30.0, "Days a finished delivery is kept with its tries.", least=0.01, most=36_500
    )
    max_endpoints: int = setting(50, "Endpoints of one tenant.", least=1, most=100_000)


def webhooks_conf() -> WebhooksConf:
    """Give the webhook settings in force."""
    found: WebhooksConf = settings.TASKMILL_WEBHOOKS
    return found
