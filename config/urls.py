"""The address space: admin, API, pages.

The admins of all apps are found here, not where Django starts: workers, engines and beats have no
use for them.
"""

from __future__ import annotations

import django_stubs_ext
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from notifications.asyncapi.views import asyncapi
from tasks_app.api import pages
from tasks_app.api.urls import metrics_route, probe_routes

django_stubs_ext.monkeypatch()  # ModelAdmin[...] at run time
admin.autodiscover()

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("tasks_app.api.urls")),
    path("api/v1/", include("notifications.urls")),
    path("api/v1/", include("scheduler.urls")),
    path("hubs/notifications/", include("notifications.signalr.urls")),
    path("examples/", include("notifications.examples.urls")),
    path("api/schema", pages.schema, name="schema"),
    path("api/asyncapi.json", asyncapi, name="asyncapi"),
    path("api/docs", pages.swagger, name="api-docs"),
    path("api/redoc", pages.redoc, name="api-redoc"),
    path("docs/errors", pages.error_reference, name="errors"),
    path("", pages.front, name="front"),
    metrics_route,
    *probe_routes,
]
handler400 = "tasks_app.api.problems.bad_request"
handler403 = "tasks_app.api.problems.permission_denied"
handler404 = "tasks_app.api.problems.page_not_found"
handler500 = "tasks_app.api.problems.server_error"
