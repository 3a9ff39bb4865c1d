"""The routes of the API, mounted at /api/v1 by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from tasks_app.api.dead_letters import (
    DeadLettersPurgeView,
    DeadLettersRetryView,
    DeadLettersView,
)
from tasks_app.api.health import HealthView, LiveView, ReadyView
from tasks_app.api.limits import ConcurrencyKeyView
from tasks_app.api.metrics import MetricsView
from tasks_app.api.paced_retries import (
    PacedRetriesView,
    PacedRetryAbortView,
    PacedRetryDetailView,
)
from tasks_app.api.queues import (
    QueueCleanView,
    QueueDetailView,
    QueueFailedView,
    QueuePauseView,
    QueueResumeView,
    QueueRetryView,
    QueuesView,
)
from tasks_app.api.quotas import QuotasView
from tasks_app.api.stats import StatsView
from tasks_app.api.task_urls import task_routes
from tasks_app.api.workers import WorkersView

probe_routes: list[URLPattern | URLResolver] = [
    path("health", HealthView.as_view(), name="health"),
    path("livez", LiveView.as_view(), name="livez"),
    path("readyz", ReadyView.as_view(), name="readyz"),
]
"""Also mounted at the root of the site, where load balancers look."""

metrics_route: URLPattern = path("metrics", MetricsView.as_view(), name="metrics")
"""Mounted at the root of the site alone."""

platform_routes: list[URLPattern | URLResolver] = [
    path("stats", StatsView.as_view(), name="stats"),
    path("workers", WorkersView.as_view(), name="workers"),
    path("queues", QueuesView.as_view(), name="queues"),
    path("queues/<str:queue>", QueueDetailView.as_view(), name="queue"),
    path("queues/<str:queue>/pause", QueuePauseView.as_view(), name="queue-pause"),
    path("queues/<str:queue>/resume", QueueResumeView.as_view(), name="queue-resume"),
    path("queues/<str:queue>/clean", QueueCleanView.as_view(), name="queue-clean"),
    path("queues/<str:queue>/retry-failed", QueueRetryView.as_view(), name="queue-retry-failed"),
    path("queues/<str:queue>/failed", QueueFailedView.as_view(), name="queue-failed"),
    path("concurrency-keys/<path:key>", ConcurrencyKeyView.as_view(), name="concurrency-key"),
    path("quotas", QuotasView.as_view(), name="quotas"),
    path("dead-letters", DeadLettersView.as_view(), name="dead-letters"),
    path("dead-letters/retry", DeadLettersRetryView.as_view(), name="dead-letters-retry"),
    path("dead-letters/purge", DeadLettersPurgeView.as_view(), name="dead-letters-purge"),
    path("dead-letters/retries", PacedRetriesView.as_view(), name="paced-retries"),
    path("dead-letters/retries/<str:retry_id>", PacedRetryDetailView.as_view(), name="paced-retry"),
    path(
        "dead-letters/retries/<str:retry_id>/abort",
        PacedRetryAbortView.as_view(),
        name="paced-retry-abort",
    ),
]
"""Routes that are not about single tasks."""

urlpatterns: list[URLPattern | URLResolver] = [*task_routes, *platform_routes, *probe_routes]
