"""Paced retries of dead letters: begun, watched, aborted."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import PageUrl
from tasks_app.api.bodies import read_body
from tasks_app.api.dead_letters import DeadLetterChoice
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pagination import PAGE_PARAMETERS, page_of, read_page_request
from tasks_app.api.views import ApiView
from tasks_app.errors import PacedRetryNotFound, StateConflict
from tasks_app.selectors.paced_retries import find_paced_retry, paced_retries_listed
from tasks_app.services.json_values import invalid
from tasks_app.services.paced_retries import abort_paced_retry, begin_paced_retry
from tasks_app.services.submission import Strict

TAG: Final = "dead letters"
RETRY_ID: Final = Parameter(
    name="retry_id",
    description="The paced retry's id.",
    schema={"type": "string", "format": "uuid"},
)


class NewPacedRetry(DeadLetterChoice):
    """Which dead letters to retry, by at least one field of a filter, and how fast."""

    per_second: Annotated[float, Field(ge=0.001, le=1000)] = Field(
        description="Most retries a second; 0.1 is one every ten seconds."
    )


class PacedRetryNoFields(Strict):
    """A body that says nothing."""


class PacedRetry(BaseModel):
    """Dead letters being retried so many a second."""

    id: uuid.UUID
    state: Literal["running", "done", "aborted"]
    wanted: dict[str, Any] = Field(description="The filter, as it was given.")
    per_second: float
    total: int = Field(description="How many fitted at its start, counted up to 100,000.")
    total_is_capped: bool
    retried: int
    skipped: int = Field(
        description="Retried or purged by others meanwhile, or a live task holds the unique key."
    )
    progress: float = Field(ge=0, le=100, description="Percent.")
    created_at: AwareDatetime
    created_by: str
    finished_at: AwareDatetime | None
    finished_by: str | None = Field(description="Who aborted it.")


class PacedRetryList(BaseModel):
    """A page of paced retries."""

    results: list[PacedRetry]
    next: PageUrl
    previous: PageUrl


class PacedRetriesView(IdempotentPost, ApiView):
    """`/dead-letters/retries`."""

    scopes = {"GET": "tasks:read", "POST": "tasks:submit"}
    operations = {
        "GET": Operation(
            name="list_paced_retries",
            tag=TAG,
            summary="List paced retries",
            description="The newest first.",
            query=PAGE_PARAMETERS,
            replies={200: Reply(description="A page.", model=PacedRetryList)},
        ),
        "POST": Operation(
            name="begin_paced_retry",
            tag=TAG,
            summary="Retry dead letters at a pace",
            description=(
                "Those that fit now, in the order of their end, at most `per_second` a second;"
                " `GET /dead-letters` with the same filter shows which. The engine carries it on,"
                " through restarts, until all were retried or it is aborted."
            ),
            body=NewPacedRetry,
            headers=("Idempotency-Key",),
            replies={
                202: Reply(
                    description="It has begun.",
                    model=PacedRetry,
                    headers=("Idempotency-Replayed",),
                )
            },
            problems=(StateConflict,),
        ),
    }

    def get(self, request: Request) -> Response:
        """List them."""
        tenant_id = self.caller.tenant_id
        page = read_page_request(request, tenant_id)
        rows = paced_retries_listed(
            tenant_id=tenant_id,
            most=page.limit + 1,
            after=uuid.UUID(page.position[0]) if page.position is not None else None,
            is_backward=page.is_backward,
        )
        shown, links = page_of(request, tenant_id, page, rows, lambda row: (row["id"],))
        return Response({"results": shown, **links})

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Begin one."""
        body = read_body(NewPacedRetry, request)
        wanted = body.wanted()
        if not wanted.chosen():
            words = "give at least one of group_id, type, queue, status, code, finished_before"
            raise invalid("", "selection", words)
        begun = begin_paced_retry(caller=self.caller, wanted=wanted, per_second=body.per_second)
        return Answer(status=202, body=begun)


class PacedRetryView(ApiView):
    """An address below one paced retry."""

    @property
    def retry_id(self) -> uuid.UUID:
        """The id of the path.

        Raises:
            PacedRetryNotFound: not an id, which is answered like one that does not exist.
        """
        try:
            return uuid.UUID(self.kwargs["retry_id"])
        except ValueError as error:
            raise PacedRetryNotFound from error


class PacedRetryDetailView(PacedRetryView):
    """`GET /dead-letters/retries/{retry_id}`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="get_paced_retry",
            tag=TAG,
            summary="Get a paced retry",
            description="How far it is.",
            path=(RETRY_ID,),
            replies={200: Reply(description="The paced retry.", model=PacedRetry)},
            problems=(PacedRetryNotFound,),
        )
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Show it."""
        found = find_paced_retry(tenant_id=self.caller.tenant_id, retry_id=self.retry_id)
        return Response(found)


class PacedRetryAbortView(PacedRetryView):
    """`POST /dead-letters/retries/{retry_id}/abort`."""

    scopes = {"POST": "tasks:submit"}
    operations = {
        "POST": Operation(
            name="abort_paced_retry",
            tag=TAG,
            summary="Abort a paced retry",
            description="Nothing more is retried after the answer; what was retried stays so.",
            path=(RETRY_ID,),
            body=PacedRetryNoFields,
            is_body_required=False,
            replies={200: Reply(description="The paced retry.", model=PacedRetry)},
            problems=(PacedRetryNotFound, StateConflict),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Abort it."""
        read_body(PacedRetryNoFields, request)
        return Response(abort_paced_retry(caller=self.caller, retry_id=self.retry_id))
