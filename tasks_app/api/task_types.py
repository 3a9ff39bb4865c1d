"""What can be submitted: task types with their schemas, defaults and small statistics."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app import registry
from tasks_app.api.answers import TaskTypeList, TaskTypeWithStatistics
from tasks_app.api.bodies import read_body
from tasks_app.api.operation import Operation, Reply
from tasks_app.api.views import ApiView
from tasks_app.selectors import type_statistics
from tasks_app.selectors.limits import type_limits_shown
from tasks_app.services.defaults import defaults_of
from tasks_app.services.limits import LimitSettings, change_type_limit


class TaskTypeCollection(ApiView):
    """`GET /task-types`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_task_types",
            tag="task types",
            summary="List the task types",
            description="By name, with the JSON Schemas of payload and result and the defaults.",
            replies={200: Reply(description="The task types.", model=TaskTypeList)},
        )
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """List the task types by name."""
        return Response({"results": [describe(handler) for handler in registry.all_handlers()]})


class TaskTypeDetail(ApiView):
    """`/task-types/{type}`."""

    scopes = {"GET": "tasks:read", "PATCH": "queues:write"}
    operations = {
        "GET": Operation(
            name="get_task_type",
            tag="task types",
            summary="Get one task type",
            description="With its limits and numbers over its latest 1,000 tasks.",
            replies={200: Reply(description="The task type.", model=TaskTypeWithStatistics)},
        ),
        "PATCH": Operation(
            name="change_task_type",
            tag="task types",
            summary="Change the limits of a task type",
            description=(
                "For all tenants, at once, over what its handler declares; null goes back to that."
                " A lower limit stops only the next tasks, those that run go on."
            ),
            body=LimitSettings,
            replies={200: Reply(description="The task type.", model=TaskTypeWithStatistics)},
        ),
    }

    def get(self, _request: Request, **kwargs: Any) -> Response:
        """Give one task type, with statistics over its latest tasks."""
        return Response(self._shown(registry.get_handler(kwargs["task_type"])))

    def patch(self, request: Request, **kwargs: Any) -> Response:
        """Change its limits."""
        handler = registry.get_handler(kwargs["task_type"])
        body = read_body(LimitSettings, request)
        change_type_limit(caller=self.caller, task_type=handler.type, columns=body.columns())
        return Response(self._shown(handler))

    def _shown(self, handler: registry.Handler) -> dict[str, Any]:
        statistics = type_statistics(tenant_id=self.caller.tenant_id, task_type=handler.type)
        limits = type_limits_shown(task_type=handler.type, tenant_id=self.caller.tenant_id)
        return describe(handler) | {"limits": limits, "statistics": statistics}


def describe(handler: registry.Handler) -> dict[str, Any]:
    """Give the task type object: description, JSON Schemas, and the defaults in force."""
    known = defaults_of(handler, queue=handler.options.queue)
    return {
        "type": handler.type,
        "description": handler.description,
        "payload_schema": handler.payload_schema(),
        "result_schema": handler.result_schema(),
        "defaults": {
            "queue": handler.options.queue,
            "priority": known.priority,
            "max_retry": known.max_retry,
            "process_timeout": known.process_timeout,
            "queue_timeout": known.queue_timeout,
            "retry": known.queue_policy or handler.options.policy.as_json(),
        },
    }
