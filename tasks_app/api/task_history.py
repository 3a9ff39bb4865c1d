"""What one task left behind: result, events, attempts and log lines."""

from __future__ import annotations

import re
from typing import Any, Final

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import AttemptList, EventList, LogLineList
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pagination import invalid_parameter, read_number
from tasks_app.api.renderers import to_json
from tasks_app.api.tasks import TaskView
from tasks_app.errors import NotFinished, StateConflict
from tasks_app.selectors import (
    LogPlace,
    find_state,
    find_task,
    task_attempts,
    task_events,
    task_logs,
)
from tasks_app.selectors.history import LEVELS
from tasks_app.states import FINISHED, State, status_of

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
MAX_NUMBER: Final = 2_147_483_647
_PLACE: Final = re.compile(r"^([0-9]{1,15})\.([0-9]{1,9})\.([0-9]{1,9})$")
_LIMIT: Final = Parameter(
    name="limit",
    description="Rows at most.",
    schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
)


class HistoryView(TaskView):
    """A read below one task."""

    scopes = {"GET": "tasks:read"}

    def limit(self, request: Request) -> int:
        """Give the length of the page, 1 to 1,000."""
        return read_number(request, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT)

    def prove(self) -> None:
        """Prove that the task is the caller's.

        Raises:
            TaskNotFound: it is not.
        """
        find_state(tenant_id=self.caller.tenant_id, task_id=self.task_id)


class TaskResult(HistoryView):
    """`GET /tasks/{id}/result`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="get_task_result",
            tag="history",
            summary="Get the raw result",
            description="The JSON that the handler returned, without an envelope.",
            replies={200: Reply(description="The result.")},
            problems=(NotFinished, StateConflict),
        )
    }

    def get(self, _request: Request, **_: Any) -> HttpResponse:
        """Give the raw JSON of the result.

        Raises:
            NotFinished: 409, wait for `done`.
            StateConflict: 409, it ended without a result; `error` says why.
        """
        row = find_task(tenant_id=self.caller.tenant_id, task_id=self.task_id, is_shown=True)
        status = status_of(row["state"]).value
        if row["state"] not in FINISHED:
            raise NotFinished(status=status, retry_after=1)
        if row["state"] != State.SUCCESS:
            raise StateConflict(
                f"the task ended as {row['state']}; it has no result",
                state=row["state"],
                error=row["error"],
            )
        body = to_json(row["result"])
        return HttpResponse(body, content_type="application/json")


class TaskEvents(HistoryView):
    """`GET /tasks/{id}/events`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_task_events",
            tag="history",
            summary="List what happened to a task",
            description="Its events, oldest first; go on with the `after` of the answer.",
            query=(
                Parameter(
                    name="after",
                    description="Sequence of the last event that is known.",
                    schema={"type": "integer", "minimum": 0, "maximum": MAX_NUMBER, "default": 0},
                ),
                _LIMIT,
            ),
            replies={200: Reply(description="The events.", model=EventList)},
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """Give the events after `after`, oldest first, and the sequence to go on from."""
        self.prove()
        after = read_number(request, "after", default=0, least=0, most=MAX_NUMBER)
        events = task_events(task_id=self.task_id, after=after, limit=self.limit(request))
        return Response({"results": events, "after": events[-1]["sequence"] if events else after})


class TaskAttempts(HistoryView):
    """`GET /tasks/{id}/attempts`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_task_attempts",
            tag="history",
            summary="List the runs of a task",
            description="Those that ended; tracebacks only with the scope `tasks:admin`.",
            replies={200: Reply(description="The attempts.", model=AttemptList)},
        )
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Give the ended runs; their tracebacks with the scope `tasks:admin`."""
        self.prove()
        is_operator = "tasks:admin" in self.principal.scopes
        attempts = task_attempts(task_id=self.task_id, with_traceback=is_operator)
        return Response({"results": attempts})


class TaskLogs(HistoryView):
    """`GET /tasks/{id}/logs`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_task_logs",
            tag="history",
            summary="List what a task logged",
            description="Its log lines, oldest first; go on with the `after` of the answer.",
            query=(
                Parameter(
                    name="after",
                    description="Id of the last line that is known.",
                    schema={"type": "string", "pattern": _PLACE.pattern},
                ),
                _LIMIT,
                Parameter(
                    name="attempt",
                    description="Of this attempt alone.",
                    schema={"type": "integer", "minimum": 1, "maximum": MAX_NUMBER},
                ),
                Parameter(
                    name="level",
                    description="The least level wanted.",
                    schema={"type": "string", "enum": list(LEVELS)},
                ),
            ),
            replies={200: Reply(description="The log lines.", model=LogLineList)},
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """Give the log lines after the line `after`, oldest first, and the line to go on from."""
        self.prove()
        level = request.query_params.get("level")
        if level is not None and level not in LEVELS:
            raise invalid_parameter("level", f"level is one of {', '.join(LEVELS)}")
        attempt = read_number(request, "attempt", default=0, least=1, most=MAX_NUMBER)
        after = _read_place(request)
        lines = task_logs(
            task_id=self.task_id,
            after=after,
            limit=self.limit(request),
            attempt=attempt or None,
            level=level,
        )
        return Response({"results": lines, "after": lines[-1]["id"] if lines else str(after)})


def _read_place(request: Request) -> LogPlace:
    text = request.query_params.get("after")
    if text is None:
        return LogPlace()
    found = _PLACE.match(text)
    if found is None or max(int(part) for part in found.groups()[1:]) > MAX_NUMBER:
        raise invalid_parameter("after", "after is the id of a log line")
    epoch, number, place = (int(part) for part in found.groups())
    return LogPlace(epoch, number, place)
