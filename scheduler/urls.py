"""The routes of this app, mounted at /api/v1 by config/urls.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from scheduler.api import views
from scheduler.api.history import StatsHistory

_ONE = "schedules/<str:schedule_id>"

urlpatterns: list[URLPattern | URLResolver] = [
    path("schedules", views.Schedules.as_view(), name="schedules"),
    path("schedules/preview", views.SchedulePreview.as_view(), name="schedule-preview"),
    path(_ONE, views.ScheduleDetail.as_view(), name="schedule"),
    path(f"{_ONE}/run", views.ScheduleRun.as_view(), name="schedule-run"),
    path(f"{_ONE}/pause", views.SchedulePause.as_view(), name="schedule-pause"),
    path(f"{_ONE}/resume", views.ScheduleResume.as_view(), name="schedule-resume"),
    path(f"{_ONE}/firings", views.ScheduleFirings.as_view(), name="schedule-firings"),
    path("stats/history", StatsHistory.as_view(), name="stats-history"),
]
