"""Submitting tasks, and what may be done to one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final

from django.http import QueryDict
from pydantic import Field, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.pagination import invalid_parameter
from tasks_app.api.task_lists import TaskListing
from tasks_app.api.views import ApiView
from tasks_app.api.waiting import Wait
from tasks_app.api.waiting_views import POLL_SECONDS, WaitingResponse, WaitingView, preferred_wait
from tasks_app.api.waiting_views import show as show_task
from tasks_app.conf import conf
from tasks_app.errors import RequestError, TaskNotFound, ValidationFailed
from tasks_app.selectors import find_task, task_object
from tasks_app.selectors.task_object import API_ROOT
from tasks_app.services.cancel import cancel_task
from tasks_app.services.defaults import Origin
from tasks_app.services.json_values import invalid, validation_failed
from tasks_app.services.operate import read_changes, revise_task
from tasks_app.services.redrive import retry_task
from tasks_app.services.submission import (
    Strict,
    Submission,
    SubmissionOptions,
    Text,
    read_options,
    read_submission,
)
from tasks_app.services.submit import (
    UNSET,
    Submitted,
    rerun_task,
    submit_many,
    submit_task,
)
from tasks_app.states import FINISHED

BULK_BODY_BYTES: Final = 33_554_432
_ID: Final = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


def parse_task_id(text: str) -> uuid.UUID:
    """Read an id of a path.

    Raises:
        TaskNotFound: not an id, which is answered like one that does not exist.
    """
    if not _ID.match(text):
        raise TaskNotFound
    return uuid.UUID(text)


def origin_of(request: Request) -> Origin:
    """Give the origin of a submission: the caller's trace context."""
    return Origin(traceparent=getattr(request, "traceparent", ""))


class SubmittingView(IdempotentPost, WaitingView):
    """A POST that makes one task; `submission` says which."""

    scopes = {"POST": "tasks:submit"}

    def submission(self, request: Request, **kwargs: Any) -> Submission:
        """Give what is submitted."""
        raise NotImplementedError

    def carry_out(self, request: Request, **kwargs: Any) -> Answer:
        """Submit and give the task as it is now."""
        submitted = submit_task(
            caller=self.caller,
            submission=self.submission(request, **kwargs),
            origin=origin_of(request),
        )
        return self.accepted(submitted)

    def accepted(self, submitted: Submitted) -> Answer:
        """Give the answer with the task object."""
        row = find_task(tenant_id=self.caller.tenant_id, task_id=submitted.task_id)
        return Answer(
            status=200 if submitted.is_existing else 202,
            body=task_object(row),
            headers={"Location": f"{API_ROOT}/tasks/{row['id']}"},
        )

    def respond(self, request: Request, answer: Answer) -> Response:
        """Answer at once, or when the task is finished where the client prefers to wait."""
        response = WaitingResponse(answer.body, status=answer.status, headers=dict(answer.headers))
        if answer.is_replayed:
            response["Idempotency-Replayed"] = "true"
        response["ETag"] = f'"{answer.body["version"]}"'
        if not answer.body["done"]:
            response["Retry-After"] = str(POLL_SECONDS)
            seconds = preferred_wait(request)
            if seconds:
                response.wait = Wait(
                    task_id=uuid.UUID(str(answer.body["id"])),
                    tenant_id=self.caller.tenant_id,
                    version=None,
                    seconds=seconds,
                    key_id=self.principal.key_id,
                )
        return response


class TaskCollection(SubmittingView, TaskListing):
    """`/tasks`: submit one, list many."""

    scopes = {"GET": "tasks:read", "POST": "tasks:submit"}

    def submission(self, request: Request, **_: Any) -> Submission:
        """Read the whole submission from the body."""
        return read_submission(request.data)


class TypedSubmission(SubmittingView):
    """`POST /task-types/{type}/tasks`: the body is the payload alone, options are parameters."""

    scopes = {"POST": "tasks:submit"}

    def submission(self, request: Request, **kwargs: Any) -> Submission:
        """Read the payload from the body and the options from the query."""
        options = _query_options(request.query_params)
        return Submission.model_construct(
            type=kwargs["task_type"], payload=request.data, **dict(options)
        )


_LISTS: Final = frozenset({"tags", "webhook_urls"})


def _query_options(query: QueryDict) -> SubmissionOptions:
    texts = {name: str(query[name]) for name in query if name not in _LISTS}
    lists = {name: query.getlist(name) for name in query if name in _LISTS}
    try:
        return read_options(texts, lists)
    except ValidationFailed as error:
        first = error.errors[0]
        name = first["pointer"].split("/")[1] if first["pointer"] else ""
        raise invalid_parameter(name, first["detail"], first["code"]) from error


class BulkSubmission(IdempotentPost, ApiView):
    """`POST /tasks/bulk`: up to `max_bulk_items` submissions in one transaction."""

    scopes = {"POST": "tasks:submit"}
    max_body_bytes = BULK_BODY_BYTES

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Submit all of them; 202 when each was taken, 207 with one outcome per item else."""
        body = _read_bulk(request.data)
        outcomes = submit_many(
            caller=self.caller,
            submissions=[_read_item(item, number) for number, item in enumerate(body.items)],
            is_atomic=body.atomic,
            origin=origin_of(request),
        )
        results = [_item_outcome(outcome) for outcome in outcomes]
        accepted = sum(isinstance(outcome, Submitted) for outcome in outcomes)
        return Answer(
            status=202 if accepted == len(outcomes) else 207,
            body={"accepted": accepted, "rejected": len(outcomes) - accepted, "results": results},
        )


class BulkBody(Strict):
    """The body of a bulk submission; with `atomic` all items are taken or none."""

    items: list[Any]
    atomic: bool = False


def _read_bulk(body: Any) -> BulkBody:
    try:
        found = BulkBody.model_validate(body)
    except ValidationError as error:
        raise validation_failed(error) from error
    if not 1 <= len(found.items) <= conf().max_bulk_items:
        raise invalid("/items", "length", f"give 1 to {conf().max_bulk_items} items")
    return found


def _read_item(item: Any, number: int) -> Submission | RequestError:
    try:
        return read_submission(item, at=f"/items/{number}")
    except RequestError as error:
        return error


def _item_outcome(outcome: Submitted | RequestError) -> dict[str, Any]:
    if isinstance(outcome, Submitted):
        return {"status": 200 if outcome.is_existing else 202, "id": str(outcome.task_id)}
    return {
        "status": outcome.http_status,
        "id": outcome.fields.get("task_id"),
        "code": outcome.code,
        "detail": outcome.detail,
        "errors": outcome.fields.get("errors", []),
    }


class TaskView(ApiView):
    """An endpoint below one task."""

    @property
    def task_id(self) -> uuid.UUID:
        """The id of the path."""
        return parse_task_id(self.kwargs["task_id"])

    def task_response(self, status: int) -> Response:
        """Answer with the task as it is now."""
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id)
        response = WaitingResponse(status=status)
        show_task(response, row)
        if status == 202:  # noqa: PLR2004 - HTTP status
            response["Location"] = f"{API_ROOT}/tasks/{row['id']}"
        return response


class CancelBody(Strict):
    """How to cancel: `force` kills at once, `grace` is the seconds before the kill."""

    reason: Annotated[Text, Field(max_length=500)] | None = None
    force: bool | None = None
    grace: Annotated[float, Field(ge=0, le=3600)] | None = None


class TaskCancelling(TaskView):
    """What DELETE of a task and its `/cancel` share."""

    def cancelled(self, request: Request) -> Response:
        """Cancel, and answer 200 where the task has stopped, 202 where its worker is asked."""
        try:
            body = CancelBody.model_validate(request.data)
        except ValidationError as error:
            raise validation_failed(error) from error
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

    def get(self, request: Request, **_: Any) -> Response:
        """Give the task; with `If-None-Match` and `Prefer: wait=N` once it changes."""
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id)
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

    def post(self, request: Request, **_: Any) -> Response:
        """Cancel the task."""
        return self.cancelled(request)


class NoBody(Strict):
    """A body without fields."""


class TaskRetry(TaskView):
    """`POST /tasks/{id}/retry`: the same task, attempts granted anew."""

    scopes = {"POST": "tasks:submit"}

    def post(self, request: Request, **_: Any) -> Response:
        """Queue a task that did not succeed once more."""
        try:
            NoBody.model_validate(request.data)
        except ValidationError as error:
            raise validation_failed(error) from error
        retry_task(caller=self.caller, task_id=self.task_id)
        return self.task_response(202)


class RerunBody(Strict):
    """Another payload, or none for the same."""

    payload: Any = None


class TaskRerun(SubmittingView, TaskView):
    """`POST /tasks/{id}/rerun`: a new task like this one, with `retry_of`."""

    scopes = {"POST": "tasks:submit"}

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Submit the copy."""
        try:
            body = RerunBody.model_validate(request.data)
        except ValidationError as error:
            raise validation_failed(error) from error
        submitted = rerun_task(
            caller=self.caller,
            task_id=self.task_id,
            payload=body.payload if "payload" in body.model_fields_set else UNSET,
            traceparent=origin_of(request).traceparent,
        )
        return self.accepted(submitted)
