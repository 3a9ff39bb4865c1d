"""The Django admin for operators: tasks, API keys, tenants, workers.

Rows of tasks are never written from here; actions go through the services with the staff user as
their actor. What may be done by whom: docs/how-to/use-the-admin.md.
"""

from django.contrib import admin

from tasks_app.admin.dead_letters import PacedRetryAdmin
from tasks_app.admin.keys import ApiKeyAdmin
from tasks_app.admin.limits import LimitAdmin
from tasks_app.admin.platform import LeaderAdmin, StaleResultAdmin, WorkerProcessAdmin
from tasks_app.admin.queues import QueueAdmin
from tasks_app.admin.tasks import TaskAdmin
from tasks_app.admin.tenants import TenantAdmin

__all__ = [
    "ApiKeyAdmin",
    "LeaderAdmin",
    "LimitAdmin",
    "PacedRetryAdmin",
    "QueueAdmin",
    "StaleResultAdmin",
    "TaskAdmin",
    "TenantAdmin",
    "WorkerProcessAdmin",
]

admin.site.site_header = "Taskmill"
admin.site.site_title = "Taskmill"
admin.site.index_title = "Operations"
