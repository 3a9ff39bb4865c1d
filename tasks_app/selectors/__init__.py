"""Reads: rows as dictionaries, always within one tenant, each served by an index.

Nothing here writes. `task_object` is the one form in which a task is shown.
"""

from tasks_app.selectors.history import LogPlace, cloud_event, task_attempts, task_events, task_logs
from tasks_app.selectors.lists import (
    Place,
    TaskFilter,
    TaskOrder,
    count_query,
    list_query,
    task_rows,
    tasks_count,
)
from tasks_app.selectors.task_object import task_object
from tasks_app.selectors.task_types import type_statistics
from tasks_app.selectors.tasks import absent_task, find_state, find_task, tasks_by_id
from tasks_app.selectors.tenants import DEFAULT_TENANT, forget_tenants, tenant_id_of
from tasks_app.selectors.waiting import waiting_reasons

__all__ = [
    "DEFAULT_TENANT",
    "LogPlace",
    "Place",
    "TaskFilter",
    "TaskOrder",
    "absent_task",
    "cloud_event",
    "count_query",
    "find_state",
    "find_task",
    "forget_tenants",
    "list_query",
    "task_attempts",
    "task_events",
    "task_logs",
    "task_object",
    "task_rows",
    "tasks_by_id",
    "tasks_count",
    "tenant_id_of",
    "type_statistics",
    "waiting_reasons",
]
