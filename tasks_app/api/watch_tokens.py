"""Making watch tokens for a task or a tag."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.bodies import read_body
from tasks_app.api.operation import Operation, Reply
from tasks_app.api.tasks import TaskView
from tasks_app.api.views import ApiView
from tasks_app.selectors import find_state
from tasks_app.selectors.shapes import WatchToken
from tasks_app.services.submission import Strict, Text
from tasks_app.services.watch import Watch, watch_object


class TaskWatchTokens(TaskView):
    """`POST /tasks/{id}/watch-tokens`."""

    scopes = {"POST": "tasks:read"}
    operations = {
        "POST": Operation(
            name="create_task_watch_token",
            tag="streams",
            summary="Make a watch token for a task",
            description="It shows and streams this one task, and nothing else.",
            replies={201: Reply(description="The token.", model=WatchToken)},
        )
    }

    def post(self, _request: Request, **_: Any) -> Response:
        """Make a token that shows this task alone."""
        find_state(tenant_id=self.caller.tenant_id, task_id=self.task_id)
        watch = Watch(
            tenant_id=self.caller.tenant_id, key_id=self.principal.key_id, task_id=self.task_id
        )
        return Response(watch_object(watch), status=201)


class TagWatchBody(Strict):
    """Which tag the token is for."""

    tag: Annotated[Text, Field(min_length=1, max_length=64)]


class TagWatchTokens(ApiView):
    """`POST /watch-tokens`."""

    scopes = {"POST": "tasks:read"}
    operations = {
        "POST": Operation(
            name="create_tag_watch_token",
            tag="streams",
            summary="Make a watch token for a tag",
            description="It streams the events of the tasks with this tag, and nothing else.",
            body=TagWatchBody,
            replies={201: Reply(description="The token.", model=WatchToken)},
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Make a token that streams the events of the tasks with a tag."""
        body = read_body(TagWatchBody, request)
        watch = Watch(tenant_id=self.caller.tenant_id, key_id=self.principal.key_id, tag=body.tag)
        return Response(watch_object(watch), status=201)
