"""Routes about tasks and task types."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from tasks_app.api import (
    bulk,
    streams,
    submissions,
    task_history,
    task_types,
    tasks,
    watch_tokens,
)

task_routes: list[URLPattern | URLResolver] = [
    path("tasks", submissions.TaskCollection.as_view(), name="tasks"),
    path("tasks/bulk", bulk.BulkSubmission.as_view(), name="tasks-bulk"),
    path("tasks/<str:task_id>", tasks.TaskDetail.as_view(), name="task"),
    path("tasks/<str:task_id>/cancel", tasks.TaskCancel.as_view(), name="task-cancel"),
    path("tasks/<str:task_id>/retry", tasks.TaskRetry.as_view(), name="task-retry"),
    path("tasks/<str:task_id>/rerun", submissions.TaskRerun.as_view(), name="task-rerun"),
    path("tasks/<str:task_id>/result", task_history.TaskResult.as_view(), name="task-result"),
    path("tasks/<str:task_id>/events", task_history.TaskEvents.as_view(), name="task-events"),
    path("tasks/<str:task_id>/attempts", task_history.TaskAttempts.as_view(), name="task-attempts"),
    path("tasks/<str:task_id>/logs", task_history.TaskLogs.as_view(), name="task-logs"),
    path("tasks/<str:task_id>/stream", streams.TaskStream.as_view(), name="task-stream"),
    path(
        "tasks/<str:task_id>/watch-tokens",
        watch_tokens.TaskWatchTokens.as_view(),
        name="task-watch-tokens",
    ),
    path("watch-tokens", watch_tokens.TagWatchTokens.as_view(), name="watch-tokens"),
    path("events/stream", streams.EventsStream.as_view(), name="events-stream"),
    path("task-types", task_types.TaskTypeCollection.as_view(), name="task-types"),
    path("task-types/<str:task_type>", task_types.TaskTypeDetail.as_view(), name="task-type"),
    path(
        "task-types/<str:task_type>/tasks",
        submissions.TypedSubmission.as_view(),
        name="task-type-tasks",
    ),
]
