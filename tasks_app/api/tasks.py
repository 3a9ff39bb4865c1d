"""What may be done to one task: read it, revise it, cancel it, retry it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.authentication import WatchAuthentication
from tasks_app.api.bodies import read_body
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import WATCH_TOKEN, Operation, Reply
from tasks_app.api.views import ApiView
from tasks_app.api.waiting import Wait
from tasks_app.api.waiting_views import WaitingResponse, WaitingView, preferred_wait
from tasks_app.api.waiting_views import show as show_task
from tasks_app.errors import (
    DuplicateTask,
    QuotaExceeded,
    StateConflict,
    TaskNotFound,
    TooManyQueues,
    UnknownTaskType,
)
from tasks_app.selectors import find_task
from tasks_app.selectors.shapes import ShownTask, Task
from tasks_app.selectors.task_object import API_ROOT, task_receipt
from tasks_app.services.cancel import cancel_task
from tasks_app.services.operate import Changes, read_changes, revise_task
from tasks_app.services.redrive import retry_task
from tasks_app.services.submission import Strict, Text
from tasks_app.services.submit import UNSET
from tasks_app.states import FINISHED

_ID: Final = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')
_SHOWN: Final = ("ETag", "Retry-After")


def parse_task_id(text: str) -> uuid.UUID:
    """Read an id of a path.

    Raises:
        TaskNotFound: not an id, which is answered like one that does not exist.
    """
    if not _ID.match(text):
        raise TaskNotFound
    return uuid.UUID(text)


class TaskView(ApiView):
    """An endpoint below one task."""

    @property
    def task_id(self) -> uuid.UUID:
        """The id of the path.

        Raises:
            TaskNotFound: not an id, or not that of the caller's watch token.
        """
        task_id = parse_task_id(self.kwargs["task_id"])
        watch = self.principal.watch
        if watch is not None and watch.task_id != task_id:
            raise TaskNotFound
        return task_id

    def task_response(self, status: int) -> Response:
        """Answer with the task as it is now, or a receipt where the key may not read it."""
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id, is_shown=True)
        response = WaitingResponse(status=status)
        response.is_receipt = not self.is_reader
        show_task(response, row)
        if status == 202:  # noqa: PLR2004 - HTTP status
            response["Location"] = f"{API_ROOT}/tasks/{row['id']}"
        return response


class CancelBody(Strict):
    """How to cancel: `force` kills at once, `grace` is the seconds before the kill."""

    reason: Annotated[Text, Field(max_length=500)] | None = None
    force: bool | None = None
    grace: Annotated[float, Field(ge=0, le=3600)] | None = None


def cancelling(name: str) -> Operation:
    """Describe a cancel; DELETE of the task and its `/cancel` are the same."""
    asked = ("Location", *_SHOWN)
    return Operation(
        name=name,
        tag="tasks",
        summary="Cancel a task",
        description="Repeating it changes nothing; a finished task is not cancelled any more.",
        body=CancelBody,
        is_body_required=False,
        replies={
            200: Reply(description="It will not run again.", model=ShownTask, headers=_SHOWN),
            202: Reply(
                description="Its worker is asked to stop it.", model=ShownTask, headers=asked
            ),
        },
        problems=(StateConflict,),
    )


class TaskCancelling(TaskView):
    """What DELETE of a task and its `/cancel` share."""

    def cancelled(self, request: Request) -> Response:
        """Cancel, and answer 200 where the task has stopped, 202 where its worker is asked."""
        body = read_body(CancelBody, request)
        answer = cancel_task(
            caller=self.caller,
            task_id=self.task_id,
            reason=body.reason or "",
            is_forced=body.force is True,
            grace_seconds=body.grace,
        )
        return self.task_response(200 if answer.was_pending else 202)


class TaskDetail(TaskCancelling, WaitingView):
    """`/tasks/{id}`: read with long poll, revise while pending, cancel."""

    scopes = {"GET": "tasks:read", "PATCH": "tasks:submit", "DELETE": "tasks:cancel"}
    authentication_classes = [WatchAuthentication]
    operations = {
        "GET": Operation(
            name="get_task",
            tag="tasks",
            summary="Get a task",
            description=(
                "With `Prefer: wait=N` it answers when the task has finished; with `If-None-Match`"
                " beside it, as soon as the task changes."
            ),
            query=(WATCH_TOKEN,),
            headers=("Prefer", "If-None-Match"),
            replies={
                200: Reply(
                    description="The task.", model=Task, headers=(*_SHOWN, "Preference-Applied")
                ),
                304: Reply(
                    description="The task has no other version than the one named.",
                    has_body=False,
                    headers=(*_SHOWN, "Preference-Applied"),
                ),
            },
        ),
        "PATCH": Operation(
            name="revise_task",
            tag="tasks",
            summary="Change a task that waits",
            description="A merge patch (RFC 7386) of priority, queue, run_at, tags or metadata.",
            body=Changes,
            is_body_required=False,
            media_types=("application/merge-patch+json", "application/json"),
            headers=("If-Match",),
            replies={
                200: Reply(description="The task as it is now.", model=ShownTask, headers=_SHOWN)
            },
            problems=(StateConflict, QuotaExceeded, TooManyQueues),
        ),
        "DELETE": cancelling("delete_task"),
    }

    def get(self, request: Request, **_: Any) -> Response:
        """Give the task; with `If-None-Match` and `Prefer: wait=N` once it changes."""
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id, is_shown=True)
        known = request.headers.get("If-None-Match")
        is_same = known is not None and _matches(known, row["version"])
        response = WaitingResponse()
        show_task(response, row, is_same=is_same)
        seconds = preferred_wait(request)
        if seconds and row["state"] not in FINISHED and (is_same or known is None):
            response.wait = Wait(
                task_id=row["id"],
                tenant_id=row["tenant_id"],
                version=row["version"] if is_same else None,
                seconds=seconds,
                key_id=self.principal.key_id,
            )
        return response

    def patch(self, request: Request, **_: Any) -> Response:
        """Merge-patch priority, queue, run_at, tags or metadata of a pending task."""
        changes = read_changes(request.data)
        revise_task(
            caller=self.caller,
            task_id=self.task_id,
            changes=changes,
            version=_wanted_version(request.headers),
        )
        return self.task_response(200)

    def delete(self, request: Request, **_: Any) -> Response:
        """Cancel the task."""
        return self.cancelled(request)


def _matches(header: str, version: int) -> bool:
    return header.strip() == "*" or str(version) in _ETAG.findall(header)


def _wanted_version(headers: Mapping[str, str]) -> int | None:
    header = headers.get("If-Match", "*").strip()
    if header == "*":
        return None
    found = re.fullmatch(r'"(\d{1,9})"', header)
    return int(found.group(1)) if found else -1


class TaskCancel(TaskCancelling):
    """`POST /tasks/{id}/cancel`."""

    scopes = {"POST": "tasks:cancel"}
    operations = {"POST": cancelling("cancel_task")}

    def post(self, request: Request, **_: Any) -> Response:
        """Cancel the task."""
        return self.cancelled(request)


class RetryBody(Strict):
    """How to retry: `payload` replaces that of the task, checked like that of a submission."""

    payload: Any = None


class TaskRetry(IdempotentPost, TaskView):
    """`POST /tasks/{id}/retry`: the same task, attempts granted anew."""

    scopes = {"POST": "tasks:submit"}
    operations = {
        "POST": Operation(
            name="retry_task",
            tag="tasks",
            summary="Run a task again that did not succeed",
            description=(
                "The same task with its attempts granted anew, and with another payload where the"
                " body holds one."
            ),
            body=RetryBody,
            is_body_required=False,
            headers=("Idempotency-Key",),
            replies={
                202: Reply(
                    description="It is queued.",
                    model=ShownTask,
                    headers=("Location", "Idempotency-Replayed", *_SHOWN),
                )
            },
            problems=(StateConflict, DuplicateTask, UnknownTaskType),
        )
    }

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Queue a task that did not succeed once more."""
        body = read_body(RetryBody, request)
        payload = body.payload if "payload" in body.model_fields_set else UNSET
        retry_task(caller=self.caller, task_id=self.task_id, payload=payload)
        shown = WaitingResponse()
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id, is_shown=True)
        show_task(shown, row)
        headers = {name: shown[name] for name in _SHOWN}
        headers["Location"] = f"{API_ROOT}/tasks/{row['id']}"
        return Answer(status=202, body=shown.data, headers=headers)

    def respond(self, request: Request, answer: Answer) -> Response:
        """Show the task, or a receipt where the key may not read it."""
        body = answer.body if self.is_reader else task_receipt(answer.body)
        return super().respond(request, replace(answer, body=body))
