"""The endpoints of the API about schedules: parse, call the service, show."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from rest_framework.request import Request
from rest_framework.response import Response

from scheduler import operating, services
from scheduler.api.answers import (
    OUTCOMES,
    FiringList,
    PreviewList,
    ScheduleList,
    ScheduleShown,
    StartedTask,
    firing_object,
    schedule_object,
    upcoming_object,
)
from scheduler.api.shapes import (
    STATUSES,
    NewSchedule,
    NoFields,
    PauseBody,
    PreviewBody,
    ScheduleChanges,
)
from scheduler.errors import (
    InvalidRule,
    ScheduleExists,
    ScheduleNotFound,
    ScheduleOver,
    ScheduleReadOnly,
)
from scheduler.selectors import find_schedule, firings_of, list_schedules
from tasks_app.public import DuplicateTask, TooManyQueues, UnknownTaskType
from tasks_app.rest import (
    API_ROOT,
    PAGE_PARAMETERS,
    Answer,
    ApiView,
    IdempotentPost,
    Operation,
    Parameter,
    Reply,
    check_task_type,
    invalid_parameter,
    page_of,
    read_body,
    read_page_request,
    read_text,
)

SCOPE: Final = "schedules:write"
TAG: Final = "schedules"
SCHEDULE_ID: Final = Parameter(
    name="schedule_id",
    description="The schedule's id.",
    schema={"type": "string", "format": "uuid"},
)


class ScheduleView(ApiView):
    """An address below one schedule."""

    @property
    def schedule_id(self) -> uuid.UUID:
        """The id of the path.

        Raises:
            ScheduleNotFound: it is none.
        """
        try:
            return uuid.UUID(self.kwargs["schedule_id"])
        except ValueError as error:
            raise ScheduleNotFound from error

    def show(self, status: int = 200) -> Response:
        """Show the schedule as it is now."""
        tenant_id = self.caller.tenant_id
        row = find_schedule(tenant_id=tenant_id, schedule_id=self.schedule_id)
        return Response(schedule_object(row), status=status)


def _choice(request: Request, name: str, known: list[str]) -> str:
    value = request.query_params.get(name, "")
    if value and value not in known:
        raise invalid_parameter(name, f"{name} is one of {', '.join(known)}")
    return value


class Schedules(IdempotentPost, ApiView):
    """`/schedules`."""

    scopes = {"GET": SCOPE, "POST": SCOPE}
    operations = {
        "GET": Operation(
            name="list_schedules",
            tag=TAG,
            summary="List schedules",
            description="In the order of their keys, with the next instant and the last outcome.",
            query=(
                Parameter(
                    name="status",
                    description="Only those that stand so.",
                    schema={"type": "string", "enum": STATUSES},
                ),
                Parameter(
                    name="q",
                    description="Part of the key or of the task type.",
                    schema={"type": "string", "minLength": 1, "maxLength": 200},
                ),
                *PAGE_PARAMETERS,
            ),
            replies={200: Reply(description="A page.", model=ScheduleList)},
        ),
        "POST": Operation(
            name="create_schedule",
            tag=TAG,
            summary="Make a schedule",
            description=(
                "Give one of `cron`, `interval_seconds`, `once_at` and `solar`. Each due instant"
                " starts one task, whatever dies when; policies say what happens to late and to"
                " overlapping ones."
            ),
            body=NewSchedule,
            headers=("Idempotency-Key",),
            replies={
                201: Reply(
                    description="It is made.",
                    model=ScheduleShown,
                    headers=("Location", "Idempotency-Replayed"),
                )
            },
            problems=(UnknownTaskType, ScheduleExists, InvalidRule, TooManyQueues),
        ),
    }

    def get(self, request: Request) -> Response:
        """List the tenant's schedules."""
        tenant_id = self.caller.tenant_id
        page = read_page_request(request, tenant_id)
        place = "" if page.position is None else str(page.position[0])
        rows = list_schedules(
            tenant_id=tenant_id,
            status=_choice(request, "status", STATUSES),
            q=read_text(request, "q") or "",
            after_key="" if page.is_backward else place,
            before_key=place if page.is_backward else "",
            limit=page.limit + 1,
        )
        shown, links = page_of(request, tenant_id, page, rows, lambda row: (row.key,))
        return Response({"results": [schedule_object(row) for row in shown], **links})

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Make a schedule."""
        body = read_body(NewSchedule, request)
        check_task_type(self.principal, body.type)
        made = services.create_schedule(caller=self.caller, wanted=body.wanted())
        location = f"{API_ROOT}/schedules/{made.id}"
        return Answer(status=201, body=schedule_object(made), headers={"Location": location})


class ScheduleDetail(ScheduleView):
    """`/schedules/{id}`."""

    scopes = {"GET": SCOPE, "PATCH": SCOPE, "DELETE": SCOPE}
    operations = {
        "GET": Operation(
            name="get_schedule",
            tag=TAG,
            summary="Get a schedule",
            description="Its rule, its policies and where it stands.",
            path=(SCHEDULE_ID,),
            replies={200: Reply(description="The schedule.", model=ScheduleShown)},
            problems=(ScheduleNotFound,),
        ),
        "PATCH": Operation(
            name="revise_schedule",
            tag=TAG,
            summary="Change a schedule",
            description=(
                "What is left out stays, null is the default. A new timing holds for instants"
                " later than the change. Schedules declared in code are read-only."
            ),
            path=(SCHEDULE_ID,),
            body=ScheduleChanges,
            is_body_required=False,
            media_types=("application/merge-patch+json", "application/json"),
            replies={200: Reply(description="The schedule as it is now.", model=ScheduleShown)},
            problems=(
                ScheduleNotFound,
                UnknownTaskType,
                ScheduleReadOnly,
                InvalidRule,
                TooManyQueues,
            ),
        ),
        "DELETE": Operation(
            name="delete_schedule",
            tag=TAG,
            summary="Delete a schedule",
            description="With the record of its instants; its tasks stay.",
            path=(SCHEDULE_ID,),
            replies={204: Reply(description="It is gone.", has_body=False)},
            problems=(ScheduleNotFound, ScheduleReadOnly),
        ),
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Show the schedule."""
        return self.show()

    def patch(self, request: Request, **_: Any) -> Response:
        """Change what the body names."""
        found = find_schedule(tenant_id=self.caller.tenant_id, schedule_id=self.schedule_id)
        changes = read_body(ScheduleChanges, request).changes(services.wanted_of(found))
        check_task_type(self.principal, changes.get("task_type", ""))
        services.update_schedule(caller=self.caller, schedule_id=found.id, changes=changes)
        return self.show()

    def delete(self, _request: Request, **_: Any) -> Response:
        """Delete the schedule."""
        services.delete_schedule(caller=self.caller, schedule_id=self.schedule_id)
        return Response(status=204)


class ScheduleRun(IdempotentPost, ScheduleView):
    """`POST /schedules/{id}/run`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="run_schedule",
            tag=TAG,
            summary="Start its task now",
            description="Beside the rule and whatever its overlap policy says; paused ones too.",
            path=(SCHEDULE_ID,),
            body=NoFields,
            is_body_required=False,
            headers=("Idempotency-Key",),
            replies={
                202: Reply(
                    description="The task is submitted.",
                    model=StartedTask,
                    headers=("Location", "Idempotency-Replayed"),
                )
            },
            problems=(ScheduleNotFound, UnknownTaskType, DuplicateTask, TooManyQueues),
        )
    }

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Start a task."""
        schedule_id = find_schedule(
            tenant_id=self.caller.tenant_id, schedule_id=self.schedule_id
        ).id
        read_body(NoFields, request)
        task_id = operating.run_now(caller=self.caller, schedule_id=schedule_id)
        location = {"Location": request.build_absolute_uri(f"/api/v1/tasks/{task_id}")}
        return Answer(status=202, body={"task_id": task_id}, headers=location)


class SchedulePause(ScheduleView):
    """`POST /schedules/{id}/pause`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="pause_schedule",
            tag=TAG,
            summary="Pause a schedule",
            description="Its instants are recorded as skipped. Repeating it changes the reason.",
            path=(SCHEDULE_ID,),
            body=PauseBody,
            is_body_required=False,
            replies={200: Reply(description="The schedule as it is now.", model=ScheduleShown)},
            problems=(ScheduleNotFound, ScheduleOver),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Pause the schedule."""
        find_schedule(tenant_id=self.caller.tenant_id, schedule_id=self.schedule_id)
        reason = read_body(PauseBody, request).reason
        operating.pause_schedule(caller=self.caller, schedule_id=self.schedule_id, reason=reason)
        return self.show()


class ScheduleResume(ScheduleView):
    """`POST /schedules/{id}/resume`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="resume_schedule",
            tag=TAG,
            summary="Resume a schedule",
            description="From its next instant on; failures are counted anew.",
            path=(SCHEDULE_ID,),
            body=NoFields,
            is_body_required=False,
            replies={200: Reply(description="The schedule as it is now.", model=ScheduleShown)},
            problems=(ScheduleNotFound, ScheduleOver),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Resume the schedule."""
        find_schedule(tenant_id=self.caller.tenant_id, schedule_id=self.schedule_id)
        read_body(NoFields, request)
        operating.resume_schedule(caller=self.caller, schedule_id=self.schedule_id)
        return self.show()


class ScheduleFirings(ScheduleView):
    """`GET /schedules/{id}/firings`."""

    scopes = {"GET": SCOPE}
    operations = {
        "GET": Operation(
            name="list_schedule_firings",
            tag=TAG,
            summary="List a schedule's due instants",
            description="Newest first: what was fired, skipped and missed, and why.",
            path=(SCHEDULE_ID,),
            query=(
                Parameter(
                    name="outcome",
                    description="Only those with this outcome.",
                    schema={"type": "string", "enum": OUTCOMES},
                ),
                *PAGE_PARAMETERS,
            ),
            replies={200: Reply(description="A page.", model=FiringList)},
            problems=(ScheduleNotFound,),
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """List the schedule's due instants."""
        tenant_id, schedule_id = self.caller.tenant_id, self.schedule_id
        page = read_page_request(request, tenant_id)
        place = None if page.position is None else datetime.fromisoformat(page.position[0])
        rows = firings_of(
            tenant_id=tenant_id,
            schedule_id=schedule_id,
            outcome=_choice(request, "outcome", OUTCOMES),
            before=None if page.is_backward else place,
            after=place if page.is_backward else None,
            limit=page.limit + 1,
        )
        shown, links = page_of(request, tenant_id, page, rows, lambda row: (row.nominal_at,))
        return Response({"results": [firing_object(row) for row in shown], **links})


class SchedulePreview(ApiView):
    """`POST /schedules/preview`."""

    scopes = {"POST": SCOPE}
    operations = {
        "POST": Operation(
            name="preview_schedule",
            tag=TAG,
            summary="See the next instants of a timing",
            description=("Stores nothing. A note says what clocks that jump do to an instant."),
            body=PreviewBody,
            replies={200: Reply(description="The next instants.", model=PreviewList)},
            problems=(InvalidRule,),
        )
    }

    def post(self, request: Request) -> Response:
        """Give the next instants."""
        body = read_body(PreviewBody, request)
        timing = body.timing()
        found = services.preview_timing(timing=timing, count=body.count, after=body.after)
        return Response({"results": [upcoming_object(one, timing.timezone) for one in found]})
