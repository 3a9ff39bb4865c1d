"""Routes about tasks and task types."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver

task_routes: list[URLPattern | URLResolver] = []
