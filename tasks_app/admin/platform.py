"""The admin's read-only pages of the platform itself: workers, leaders, refused finishes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import DateTimeField, Func, QuerySet
from django.http import HttpRequest
from typing_extensions import override

from tasks_app.admin.readonly import ReadOnlyAdmin
from tasks_app.conf import conf
from tasks_app.models import Leader, StaleResult, WorkerProcess

_MEBIBYTE = 1_048_576


class DatabaseNow(Func):
    """`taskmill_now()`: the clock that decides."""

    function = "taskmill_now"
    output_field = DateTimeField()


@admin.register(WorkerProcess)
class WorkerProcessAdmin(ReadOnlyAdmin[WorkerProcess]):
    """Workers, newest sign of life first."""

    list_display = (
        "name",
        "status",
        "queues",
        "busy",
        "slots",
        "memory",
        "started_at",
        "last_seen_at",
    )
    ordering = ("-last_seen_at",)

    @override
    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerProcess]:
        """Add the database's time."""
        return super().get_queryset(request).annotate(now=DatabaseNow())

    @admin.display
    def status(self, worker: Any) -> str:
        """Say `lost` after a lease without a sign, as the engine does."""
        if worker.last_seen_at < worker.now - timedelta(seconds=conf().lease_seconds):
            return "lost"
        return "stopping" if worker.is_stopping else "online"

    @admin.display
    def memory(self, worker: WorkerProcess) -> str:
        """Show the memory in MiB."""
        return f"{worker.memory_bytes / _MEBIBYTE:.0f} MiB"


@admin.register(Leader)
class LeaderAdmin(ReadOnlyAdmin[Leader]):
    """Who leads which loop."""

    list_display = ("loop", "holder", "token", "expires_at")
    ordering = ("loop",)


@admin.register(StaleResult)
class StaleResultAdmin(ReadOnlyAdmin[StaleResult]):
    """Finishes that came too late, newest first."""

    list_display = ("task_id", "verb", "epoch", "worker", "at")
    ordering = ("-id",)
    show_full_result_count = False
    sortable_by = ()
