"""Dead letters: listed, grouped by cause, retried and purged, one or many at a time."""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import Count, DeadLetterGroupList, DeadLetterList
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pagination import (
    PAGE_PARAMETERS,
    TEXT,
    invalid_parameter,
    page_of,
    read_page_request,
    read_text,
)
from tasks_app.api.views import ApiView
from tasks_app.selectors.dead_letters import (
    DeadLetterFilter,
    dead_letters_by_cause,
    dead_letters_listed,
)
from tasks_app.services import redrive
from tasks_app.services.json_values import invalid, validation_failed
from tasks_app.services.submission import Instant, Text

MAX_IDS: Final = 1_000
STATUSES: Final = ("failed", "error", "timeout")
GROUP_PATTERN: Final = "^[0-9a-f]{16}$"


class DeadLetterChoice(BaseModel):
    """A filter of dead letters."""

    model_config = ConfigDict(extra="forbid")

    group_id: str | None = Field(
        default=None, pattern=GROUP_PATTERN, description="Of a group: those of one cause."
    )
    type: Text | None = Field(default=None, max_length=100)
    queue: str | None = Field(default=None, max_length=100)
    status: str | None = Field(default=None, pattern="^(failed|error|timeout)$")
    code: str | None = Field(default=None, max_length=64, description="Code of the last error.")
    finished_before: Instant | None = None

    def wanted(self) -> DeadLetterFilter:
        """Give the filter."""
        return DeadLetterFilter(
            type=self.type,
            queue=self.queue,
            state=self.status,
            code=self.code,
            finished_before=self.finished_before,
            group_id=self.group_id,
        )


class DeadLetterSelection(DeadLetterChoice):
    """Body of retry and purge: `ids`, or a filter of at least one field."""

    ids: list[uuid.UUID] | None = Field(default=None, min_length=1, max_length=MAX_IDS)


class DeadLettersShown(RootModel[DeadLetterList | DeadLetterGroupList]):
    """A page of dead letters, or with `group=true` their groups."""


class DeadLettersView(ApiView):
    """Tasks that are out of attempts, newest first."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_dead_letters",
            tag="dead letters",
            summary="List dead letters, or group them by cause",
            description=(
                "Tasks that ended as `failed`, `error` or `timeout`, the newest first. With"
                " `group=true` the newest 5,000 grouped by type, error code and raising frame."
            ),
            query=(
                Parameter(name="type", description="Task type.", schema=TEXT),
                Parameter(name="queue", description="Queue.", schema=TEXT),
                Parameter(name="code", description="Code of the last error.", schema=TEXT),
                Parameter(
                    name="status",
                    description="How they ended.",
                    schema={"type": "string", "enum": list(STATUSES)},
                ),
                Parameter(
                    name="group_id",
                    description="The group that they are of.",
                    schema={"type": "string", "pattern": GROUP_PATTERN},
                ),
                Parameter(
                    name="group",
                    description="Group by cause instead.",
                    schema={"type": "boolean", "default": False},
                ),
                *PAGE_PARAMETERS,
            ),
            replies={
                200: Reply(description="A page, or the groups.", model=DeadLettersShown),
            },
        )
    }

    def get(self, request: Request) -> Response:
        """List them, or group them by cause with `?group=true`."""
        wanted = _read_filter(request)
        group = request.query_params.get("group", "false")
        if group not in {"true", "false"}:
            raise invalid_parameter("group", "group must be true or false")
        if group == "true":
            return self._grouped(wanted)
        return self._listed(request, wanted)

    def _grouped(self, wanted: DeadLetterFilter) -> Response:
        groups, is_capped = dead_letters_by_cause(tenant_id=self.caller.tenant_id, wanted=wanted)
        return Response({"results": groups, "capped": is_capped, "next": None, "previous": None})

    def _listed(self, request: Request, wanted: DeadLetterFilter) -> Response:
        tenant_id = self.caller.tenant_id
        page = read_page_request(request, tenant_id)
        rows = dead_letters_listed(
            tenant_id=tenant_id,
            wanted=wanted,
            most=page.limit + 1,
            position=page.position,
            is_backward=page.is_backward,
        )
        shown, links = page_of(
            request, tenant_id, page, rows, lambda row: (row["finished_at"], row["id"])
        )
        return Response({"results": shown, **links})


def _read_filter(request: Request) -> DeadLetterFilter:
    state, group_id = request.query_params.get("status"), request.query_params.get("group_id")
    if state is not None and state not in STATUSES:
        raise invalid_parameter("status", f"status is one of {', '.join(STATUSES)}")
    if group_id is not None and not re.fullmatch(GROUP_PATTERN, group_id):
        raise invalid_parameter("group_id", "group_id is the id of a group, 16 of 0-9 and a-f")
    return DeadLetterFilter(
        type=read_text(request, "type"),
        queue=read_text(request, "queue"),
        code=read_text(request, "code"),
        state=state,
        group_id=group_id,
    )


class DeadLettersRetryView(IdempotentPost, ApiView):
    """Run dead letters again, all attempts granted anew; at most 10,000 a call."""

    scopes = {"POST": "tasks:submit"}
    operations = {
        "POST": Operation(
            name="retry_dead_letters",
            tag="dead letters",
            summary="Run dead letters again",
            description=(
                "Those named or those that fit, at once, at most 10,000 a call; attempts anew."
                " `/dead-letters/retries` retries any number, so many a second."
            ),
            body=DeadLetterSelection,
            headers=("Idempotency-Key",),
            replies={
                202: Reply(
                    description="How many were queued.",
                    model=Count,
                    headers=("Idempotency-Replayed",),
                )
            },
        )
    }

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Answer 202 with the number of tasks queued."""
        ids, wanted = read_selection(request.data)
        count = redrive.retry_dead_letters(caller=self.caller, ids=ids, wanted=wanted)
        return Answer(status=202, body={"count": count})


class DeadLettersPurgeView(ApiView):
    """Delete dead letters with their history; at most 10,000 a call."""

    scopes = {"POST": "tasks:admin"}
    operations = {
        "POST": Operation(
            name="purge_dead_letters",
            tag="dead letters",
            summary="Delete dead letters",
            description="Those named or those that fit, with their history; at most 10,000 a call.",
            body=DeadLetterSelection,
            replies={202: Reply(description="How many were deleted.", model=Count)},
        )
    }

    def post(self, request: Request) -> Response:
        """Answer 202 with the number of tasks deleted."""
        ids, wanted = read_selection(request.data)
        count = redrive.purge_dead_letters(caller=self.caller, ids=ids, wanted=wanted)
        return Response({"count": count}, status=202)


def read_selection(
    body: Any,
) -> tuple[list[uuid.UUID] | None, DeadLetterFilter | None]:
    """Read which dead letters a body means; an empty body never means "all".

    Raises:
        ValidationFailed: it fits neither form, or both.
    """
    try:
        selection = DeadLetterSelection.model_validate(body)
    except ValidationError as error:
        raise validation_failed(error) from error
    wanted = selection.wanted()
    if (selection.ids is None) == (not wanted.chosen()):
        words = "give ids, or at least one of group_id, type, queue, status, code"
        raise invalid("", "selection", words)
    if selection.ids is not None:
        return selection.ids, None
    return None, wanted
