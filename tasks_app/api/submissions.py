"""Submitting tasks one at a time: whole, typed, or like an earlier one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from django.http import QueryDict
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from typing_extensions import override

from tasks_app.api.bodies import read_body
from tasks_app.api.gathering import ApplyingResponse
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import (
    COPY_ACCEPTED,
    SUBMISSION_HEADERS,
    TASK_ACCEPTED,
    TASK_AT_ONCE,
    Operation,
    Parameter,
)
from tasks_app.api.pagination import invalid_parameter
from tasks_app.api.permissions import check_task_type
from tasks_app.api.task_lists import TaskListing
from tasks_app.api.tasks import TaskView
from tasks_app.api.waiting import Wait
from tasks_app.api.waiting_views import POLL_SECONDS, WaitingResponse, WaitingView, preferred_wait
from tasks_app.errors import (
    DuplicateTask,
    QuotaExceeded,
    TooManyQueues,
    UnknownTaskType,
    ValidationFailed,
)
from tasks_app.selectors import find_task, task_object
from tasks_app.selectors.rows import task_row
from tasks_app.selectors.task_object import API_ROOT, task_receipt
from tasks_app.services.admission import Applicant, Submitted
from tasks_app.services.defaults import Origin
from tasks_app.services.submission import (
    Strict,
    Submission,
    SubmissionOptions,
    read_options,
    read_submission,
)
from tasks_app.services.submit import UNSET, admitted, applicant_of, rerun_task
from tasks_app.services.watch import Watch, watch_object


def origin_of(request: Request) -> Origin:
    """Give the origin of a submission: the caller's trace context."""
    return Origin(traceparent=getattr(request, "traceparent", ""))


def awaited_origin_of(request: Request) -> Origin:
    """Give the origin of a submission whose answer may wait for the task's end."""
    return replace(origin_of(request), is_awaited=bool(preferred_wait(request)))


class SubmittingView(IdempotentPost, WaitingView):
    """A POST that makes one task; `submission` says which.

    Attributes:
        is_gathering: whether those that come together may be carried out together.
        is_copying: whether the new task holds what another one does.
    """

    scopes = {"POST": "tasks:submit"}
    is_gathering = True
    is_copying = False

    def submission(self, request: Request, **kwargs: Any) -> Submission:
        """Give what is submitted."""
        raise NotImplementedError

    @override
    def post(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        """Carry the request out, or say who applies where others are admitted with it."""
        if not hasattr(request, "goes_along"):
            return super().post(request, **kwargs)
        return ApplyingResponse(self.applicant(request, **kwargs), self._settled)

    def _settled(self, outcome: Callable[[], Submitted]) -> HttpResponseBase:
        try:
            response = self.respond(self.request, self.accepted(outcome()))
        except Exception as error:  # noqa: BLE001 - as in any view of REST framework
            response = self.handle_exception(error)
        final: HttpResponseBase = self.finalize_response(self.request, response)
        return final

    @override
    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Finish an answer; one that is still to be made is finished then."""
        if isinstance(response, ApplyingResponse):
            return response
        return super().finalize_response(request, response, *args, **kwargs)

    def applicant(self, request: Request, **kwargs: Any) -> Applicant:
        """Give the task that asks for admission."""
        submission = self.submission(request, **kwargs)
        check_task_type(self.principal, submission.type)
        return applicant_of(
            caller=self.caller,
            submission=submission,
            origin=awaited_origin_of(request),
        )

    @override
    def carry_out(self, request: Request, **kwargs: Any) -> Answer:
        """Submit and give the task as it is now."""
        return self.accepted(admitted(self.applicant(request, **kwargs), is_shown=True))

    def accepted(self, submitted: Submitted) -> Answer:
        """Give the answer with the task object: as inserted where it is new, else as it is."""
        if submitted.values is None:
            tenant_id, task_id = self.caller.tenant_id, submitted.task_id
            row = find_task(tenant_id=tenant_id, task_id=task_id, is_shown=True)
        else:
            row = task_row(submitted.values, is_shown=True)
        return Answer(
            status=200 if submitted.is_existing else 202,
            body=task_object(row),
            headers={"Location": f"{API_ROOT}/tasks/{row['id']}"},
        )

    def respond(self, request: Request, answer: Answer) -> Response:
        """Answer at once, or when the task is finished where the client prefers to wait."""
        body = answer.body
        is_others = self.is_copying or answer.status != 202  # noqa: PLR2004 - HTTP status
        is_receipt = is_others and not self.is_reader
        if is_receipt:
            body = task_receipt(body)
        elif not body["done"]:
            body = body | {"watch": self._watch(body["id"])}
        response = WaitingResponse(body, status=answer.status, headers=dict(answer.headers))
        response.is_receipt = is_receipt
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
                    is_rung=answer.status == 202 and not answer.is_replayed,  # noqa: PLR2004 - as above
                    key_id=self.principal.key_id,
                )
        return response

    def _watch(self, task_id: Any) -> dict[str, Any]:
        """Give a new watch token for a task; never remembered with the answer of a key."""
        return watch_object(
            Watch(
                tenant_id=self.caller.tenant_id,
                key_id=self.principal.key_id,
                task_id=uuid.UUID(str(task_id)),
            )
        )


class TaskCollection(SubmittingView, TaskListing):
    """`/tasks`: submit one, list many."""

    scopes = {"GET": "tasks:read", "POST": "tasks:submit"}
    operations = {
        **TaskListing.operations,
        "POST": Operation(
            name="submit_task",
            tag="tasks",
            summary="Submit a task",
            description="Accepted means stored: the task will run, whatever else fails.",
            body=Submission,
            headers=SUBMISSION_HEADERS,
            replies={202: TASK_ACCEPTED, 200: TASK_AT_ONCE},
            problems=(UnknownTaskType, DuplicateTask, QuotaExceeded, TooManyQueues),
        ),
    }

    def submission(self, request: Request, **_: Any) -> Submission:
        """Read the whole submission from the body."""
        return read_submission(request.data)


_LISTS: Final = frozenset({"tags", "webhook_urls"})
_STRUCTURED: Final = frozenset({"metadata", "unique", "debounce", "retry"})


def option_parameters() -> Iterator[Parameter]:
    """Give the options of a submission that a query can carry."""
    schemas = SubmissionOptions.model_json_schema()["properties"]
    for name in SubmissionOptions.model_fields:
        if name not in _STRUCTURED:
            [schema] = [one for one in schemas[name]["anyOf"] if one != {"type": "null"}]
            text = f"As `{name}` of a submission."
            yield Parameter(name=name, description=text, schema=schema)


class TypedSubmission(SubmittingView):
    """`POST /task-types/{type}/tasks`: the body is the payload alone, options are parameters."""

    scopes = {"POST": "tasks:submit"}
    operations = {
        "POST": Operation(
            name="submit_typed_task",
            tag="task types",
            summary="Submit a task by its payload alone",
            description="The body is the payload; options are parameters.",
            any_body=True,
            query=tuple(option_parameters()),
            headers=SUBMISSION_HEADERS,
            replies={202: TASK_ACCEPTED, 200: TASK_AT_ONCE},
            problems=(QuotaExceeded, TooManyQueues),
        )
    }

    def submission(self, request: Request, **kwargs: Any) -> Submission:
        """Read the payload from the body and the options from the query."""
        options = _query_options(request.query_params)
        return Submission.model_construct(
            type=kwargs["task_type"], payload=request.data, **dict(options)
        )


def _query_options(query: QueryDict) -> SubmissionOptions:
    texts = {name: str(query[name]) for name in query if name not in _LISTS}
    lists = {name: query.getlist(name) for name in query if name in _LISTS}
    try:
        return read_options(texts, lists)
    except ValidationFailed as error:
        first = error.errors[0]
        name = first["pointer"].split("/")[1] if first["pointer"] else ""
        raise invalid_parameter(name, first["detail"], first["code"]) from error


class RerunBody(Strict):
    """Another payload, or none for the same."""

    payload: Any = None


class TaskRerun(SubmittingView, TaskView):
    """`POST /tasks/{id}/rerun`: a new task like this one, with `retry_of`."""

    scopes = {"POST": "tasks:submit"}
    is_gathering = False
    is_copying = True
    operations = {
        "POST": Operation(
            name="rerun_task",
            tag="tasks",
            summary="Submit a task like this one",
            description="Whatever became of it; `retry_of` of the new one names it.",
            body=RerunBody,
            is_body_required=False,
            headers=SUBMISSION_HEADERS,
            replies={202: COPY_ACCEPTED, 200: TASK_AT_ONCE},
            problems=(UnknownTaskType, QuotaExceeded, TooManyQueues),
        )
    }

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Submit the copy."""
        body = read_body(RerunBody, request)
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id, is_shown=True)
        check_task_type(self.principal, row["type"])
        submitted = rerun_task(
            caller=self.caller,
            task_id=self.task_id,
            payload=body.payload if "payload" in body.model_fields_set else UNSET,
            origin=awaited_origin_of(request),
        )
        return self.accepted(submitted)
