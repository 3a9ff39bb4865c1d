"""What an installation can be watched by: apps declare their figures, `/metrics` shows them.

A `MetricSource` is read when somebody scrapes; what it says is of the whole installation, and the
same from every web process. Beside it each web process counts what it alone knows, in
`PROCESS_METRICS`. An app declares its sources in `AppConfig.ready`:

    declare_metrics(MetricSource(name="mail", metrics=(SENT,), read="mail.selectors.mail_samples"))

Labels are bounded: names of queues, loops, sinks and states, never ids of tasks, keys or tenants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from django.utils.module_loading import import_string
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from tasks_app.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A gauge of the installation.

    Attributes:
        name: `taskmill_<noun>_<unit>`.
        doc: one sentence for the page of metrics and for Prometheus.
        labels: names of its labels, each of few values.
    """

    name: str
    doc: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric now; `labels` are the values, in the order of its labels."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSource:
    """Metrics that are read together.

    Attributes:
        name: shown where it cannot be read.
        read: dotted path of a function without arguments that gives samples of `metrics`. It reads
            the database by Django's connection, by indexes, at a cost that does not grow with the
            tables: a scrape happens every few seconds and is cut off after two.
    """

    name: str
    metrics: tuple[Metric, ...]
    read: str

    def samples(self) -> Iterable[Sample]:
        """Read the values.

        Raises:
            django.db.Error: the database does not answer, or not in time.
        """
        reader: Callable[[], Iterable[Sample]] = import_string(self.read)
        return reader()


_declared: dict[str, MetricSource] = {}


def declare_metrics(source: MetricSource) -> None:
    """Show these metrics to whoever scrapes.

    Raises:
        ConfigurationError: another source has the name, or one of its metrics.
    """
    others = [one for one in _declared.values() if one != source]
    names = {metric.name for one in others for metric in one.metrics}
    if any(one.name == source.name for one in others):
        raise ConfigurationError(f"there are two sources of metrics named {source.name}")
    for metric in source.metrics:
        if metric.name in names:
            raise ConfigurationError(f"there are two metrics named {metric.name}; rename one")
    _declared[source.name] = source


def metric_sources() -> tuple[MetricSource, ...]:
    """Give the declared sources, in their order."""
    return tuple(_declared.values())


PROCESS_METRICS: Final = CollectorRegistry()
"""What this process alone knows."""

ProcessCollector(registry=PROCESS_METRICS)
OPEN_CONNECTIONS: Final = Gauge(
    "taskmill_open_connections",
    "Live connections that this web process holds open, by transport.",
    ["transport"],
    registry=PROCESS_METRICS,
)
CONNECTIONS_OPENED: Final = Counter(
    "taskmill_connections_opened",
    "Live connections that this web process has opened since its start, by transport.",
    ["transport"],
    registry=PROCESS_METRICS,
)
EVENTS_HANDED_OUT: Final = Counter(
    "taskmill_feed_events_handed_out",
    "Events that this web process has put into the buffers of its subscribers, one each.",
    registry=PROCESS_METRICS,
)
SLOW_SUBSCRIBERS: Final = Counter(
    "taskmill_slow_subscribers",
    "Subscribers of this web process that took events too slowly and were sent away.",
    registry=PROCESS_METRICS,
)
HTTP_RESPONSES: Final = Counter(
    "taskmill_http_responses",
    "Answers of this web process to requests of the API, by the class of their status.",
    ["status"],
    registry=PROCESS_METRICS,
)
SUBMISSIONS_REFUSED: Final = Counter(
    "taskmill_submissions_refused",
    "Submissions that this web process has refused for a quota, by whose and which.",
    ["scope", "quota"],
    registry=PROCESS_METRICS,
)
QUOTAS: Final = ("max_waiting", "max_waiting_bytes", "max_submissions_per_minute")
TRANSPORTS: Final = ("sse", "websocket", "signalr")

STATUS_CLASSES: Final = ("2xx", "3xx", "4xx", "5xx")

for _status in STATUS_CLASSES:
    HTTP_RESPONSES.labels(_status)
for _quota in QUOTAS:
    SUBMISSIONS_REFUSED.labels("tenant", _quota)
    SUBMISSIONS_REFUSED.labels("queue", _quota)
for _transport in TRANSPORTS:
    OPEN_CONNECTIONS.labels(_transport)
    CONNECTIONS_OPENED.labels(_transport)


@contextmanager
def connection_open(transport: str) -> Iterator[None]:
    """Count a live connection for the duration."""
    CONNECTIONS_OPENED.labels(transport).inc()
    with OPEN_CONNECTIONS.labels(transport).track_inprogress():
        yield
