"""The routes of the API, mounted at /api/v1 by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver

from tasks_app.api.task_urls import task_routes

platform_routes: list[URLPattern | URLResolver] = []
"""Routes that are not about tasks: probes, statistics, workers, dead letters."""

urlpatterns: list[URLPattern | URLResolver] = [*task_routes, *platform_routes]
