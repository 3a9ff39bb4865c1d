"""`GET /metrics` for Prometheus: the installation's figures and those of this web process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.http import HttpResponse
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from rest_framework.request import Request
from typing_extensions import override

from tasks_app.api.operation import Operation, Reply
from tasks_app.api.views import ApiView
from tasks_app.conf import conf
from tasks_app.metrics import PROCESS_METRICS
from tasks_app.services.measuring import read_metrics

OPEN: Final = "open"
SCOPE: Final = "metrics:read"


class InstallationCollector(Collector):
    """What `read_metrics` gives, as Prometheus' library takes it."""

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give one family per metric that has samples."""
        families: dict[str, GaugeMetricFamily] = {}
        for sample in read_metrics():
            metric = sample.metric
            if metric.name not in families:
                families[metric.name] = GaugeMetricFamily(
                    metric.name, metric.doc, labels=metric.labels
                )
            families[metric.name].add_metric(sample.labels, sample.value)
        yield from families.values()


class _Both(Collector):
    """The installation's figures, then this process's."""

    @override
    def collect(self) -> Iterator[Any]:
        yield from InstallationCollector().collect()
        yield from PROCESS_METRICS.collect()


class MetricsView(ApiView):
    """The figures of the installation; they name queues of all tenants."""

    scopes = {"GET": SCOPE}
    operations = {
        "GET": Operation(
            name="read_metrics",
            tag="platform",
            summary="Figures of the installation for Prometheus",
            description="In Prometheus' text format, or OpenMetrics where it is asked for.",
            replies={200: Reply(description="The figures.", media_type="text/plain")},
        )
    }

    @override
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Ask for a key, unless the installation shows its figures to whoever reaches it."""
        if conf().metrics_access == OPEN:
            self.perform_content_negotiation(request)
        else:
            super().initial(request, *args, **kwargs)

    def get(self, request: Request) -> HttpResponse:
        """Give every figure."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Both())
        encoder, media_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(encoder(registry), content_type=media_type)
