"""The queue board: queues listed, made, changed, paused, resumed, cleaned, their failed tasks."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.answers import Count, DeadLetterList
from tasks_app.api.bodies import read_body
from tasks_app.api.idempotency import Answer, IdempotentPost
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pagination import PAGE_PARAMETERS, page_of, read_page_request
from tasks_app.api.queue_answers import QueueDetail, QueueList
from tasks_app.api.views import ApiView
from tasks_app.errors import QueueExists, QueueNotFound
from tasks_app.selectors.dead_letters import DeadLetterFilter, dead_letters_listed
from tasks_app.selectors.queues import active_tasks_of, is_queue, queue_names, queues_shown
from tasks_app.selectors.task_object import API_ROOT
from tasks_app.services import queues
from tasks_app.services.submission import Strict, Text

TAG: Final = "queues"
STEER: Final = "queues:write"
NAME: Final = Parameter(
    name="queue",
    description="The queue's name.",
    schema={"type": "string", "maxLength": 100},
)


class QueuePause(Strict):
    """Why a queue is paused; shown with every task that waits in it."""

    reason: Annotated[Text, Field(max_length=500)] = ""


class QueueClean(Strict):
    """Which finished tasks of a queue to delete."""

    grace_period: Annotated[float, Field(ge=0, le=queues.MAX_GRACE_SECONDS)] = Field(
        description="Seconds since their end; younger ones stay."
    )
    status: Literal["success", "failed", "error", "cancelled", "timeout"]


class QueueNoFields(Strict):
    """A body that says nothing."""


class QueueView(ApiView):
    """An address below one queue."""

    @property
    def name(self) -> str:
        """The queue of the path."""
        return str(self.kwargs["queue"])

    def check(self) -> None:
        """Prove that there is such a queue.

        Raises:
            QueueNotFound: there is none.
        """
        if not is_queue(tenant_id=self.caller.tenant_id, name=self.name):
            raise QueueNotFound(f"there is no queue {self.name[:100]!r}", queue=self.name[:100])

    def shown(self) -> dict[str, Any]:
        """Give the queue as it is now.

        Raises:
            QueueNotFound: there is none.
        """
        self.check()
        tenant_id = self.caller.tenant_id
        (row,) = queues_shown(tenant_id=tenant_id, names=[self.name])
        return row | {"active": active_tasks_of(tenant_id=tenant_id, name=self.name)}


class QueuesView(ApiView):
    """`/queues`."""

    scopes = {"GET": "tasks:read", "POST": STEER}
    operations = {
        "GET": Operation(
            name="list_queues",
            tag=TAG,
            summary="List the queues",
            description=(
                "By name, at most 1,000: those with a row, a worker, a task type or a task of"
                " yours. Numbers are of your tasks."
            ),
            replies={200: Reply(description="The queues.", model=QueueList)},
        ),
        "POST": Operation(
            name="create_queue",
            tag=TAG,
            summary="Make a queue",
            description=(
                "Not needed before a task is submitted to it: a queue used for the first time is"
                " made. Queues are shared by all tenants."
            ),
            body=queues.NewQueue,
            replies={
                201: Reply(description="It is made.", model=QueueDetail, headers=("Location",))
            },
            problems=(QueueExists,),
        ),
    }

    def get(self, _request: Request) -> Response:
        """List them."""
        tenant_id = self.caller.tenant_id
        names = queue_names(tenant_id=tenant_id)
        rows = queues_shown(tenant_id=tenant_id, names=names)
        return Response({"results": rows, "next": None, "previous": None})

    def post(self, request: Request) -> Response:
        """Make one."""
        wanted = read_body(queues.NewQueue, request)
        queues.create_queue(caller=self.caller, wanted=wanted)
        (row,) = queues_shown(tenant_id=self.caller.tenant_id, names=[wanted.name])
        location = f"{API_ROOT}/queues/{wanted.name}"
        return Response(row | {"active": []}, status=201, headers={"Location": location})


class QueueDetailView(QueueView):
    """`/queues/{queue}`."""

    scopes = {"GET": "tasks:read", "PATCH": STEER}
    operations = {
        "GET": Operation(
            name="get_queue",
            tag=TAG,
            summary="Get one queue",
            description="What holds for it, who serves it, and the numbers of your tasks in it.",
            path=(NAME,),
            replies={200: Reply(description="The queue.", model=QueueDetail)},
            problems=(QueueNotFound,),
        ),
        "PATCH": Operation(
            name="change_queue",
            tag=TAG,
            summary="Change a queue",
            description=(
                "A merge patch: null leaves a matter to the platform. What it says for"
                " submissions holds in every process within 5 seconds, the rest at once."
            ),
            path=(NAME,),
            body=queues.QueueSettings,
            replies={200: Reply(description="The queue.", model=QueueDetail)},
            problems=(QueueNotFound,),
        ),
    }

    def get(self, _request: Request, **_: Any) -> Response:
        """Show it."""
        return Response(self.shown())

    def patch(self, request: Request, **_: Any) -> Response:
        """Change it."""
        self.check()
        body = read_body(queues.QueueSettings, request)
        queues.change_queue(caller=self.caller, name=self.name, columns=body.columns())
        return Response(self.shown())


def _steering(name: str, summary: str, description: str) -> Operation:
    return Operation(
        name=name,
        tag=TAG,
        summary=summary,
        description=description,
        path=(NAME,),
        body=QueuePause if name == "pause_queue" else QueueNoFields,
        is_body_required=False,
        replies={200: Reply(description="The queue.", model=QueueDetail)},
        problems=(QueueNotFound,),
    )


class QueuePauseView(QueueView):
    """`POST /queues/{queue}/pause`."""

    scopes = {"POST": STEER}
    operations = {
        "POST": _steering(
            "pause_queue",
            "Pause a queue",
            "For all tenants, until it is resumed. Its tasks that run go on, no other starts; they"
            " keep their place, and their queue timeouts go on. A second pause changes nothing.",
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Pause it."""
        self.check()
        body = read_body(QueuePause, request)
        queues.pause_queue(caller=self.caller, name=self.name, reason=body.reason)
        return Response(self.shown())


class QueueResumeView(QueueView):
    """`POST /queues/{queue}/resume`."""

    scopes = {"POST": STEER}
    operations = {
        "POST": _steering(
            "resume_queue", "Resume a queue", "Its tasks start again, at once, in its order."
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Resume it."""
        self.check()
        read_body(QueueNoFields, request)
        queues.resume_queue(caller=self.caller, name=self.name)
        return Response(self.shown())


class QueueCleanView(QueueView):
    """`POST /queues/{queue}/clean`."""

    scopes = {"POST": "tasks:admin"}
    operations = {
        "POST": Operation(
            name="clean_queue",
            tag=TAG,
            summary="Delete finished tasks of a queue",
            description=(
                "Yours that ended with the status at least so long ago, with their history, the"
                " oldest first, at most 10,000 a call. Tasks that wait or run stay."
            ),
            path=(NAME,),
            body=QueueClean,
            replies={200: Reply(description="How many were deleted.", model=Count)},
            problems=(QueueNotFound,),
        )
    }

    def post(self, request: Request, **_: Any) -> Response:
        """Delete them and say how many there were."""
        self.check()
        body = read_body(QueueClean, request)
        count = queues.clean_queue(
            caller=self.caller, name=self.name, state=body.status, grace_seconds=body.grace_period
        )
        return Response({"count": count})


class QueueRetryView(IdempotentPost, QueueView):
    """`POST /queues/{queue}/retry-failed`."""

    scopes = {"POST": "tasks:submit"}
    operations = {
        "POST": Operation(
            name="retry_failed_of_queue",
            tag=TAG,
            summary="Run the failed tasks of a queue again",
            description="Your dead letters of it, at most 10,000 a call; attempts anew.",
            path=(NAME,),
            body=QueueNoFields,
            is_body_required=False,
            headers=("Idempotency-Key",),
            replies={
                202: Reply(
                    description="How many were queued.",
                    model=Count,
                    headers=("Idempotency-Replayed",),
                )
            },
            problems=(QueueNotFound,),
        )
    }

    def carry_out(self, request: Request, **_: Any) -> Answer:
        """Queue them and say how many there were."""
        self.check()
        read_body(QueueNoFields, request)
        count = queues.retry_failed(caller=self.caller, name=self.name)
        return Answer(status=202, body={"count": count})


class QueueFailedView(QueueView):
    """`GET /queues/{queue}/failed`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_failed_of_queue",
            tag=TAG,
            summary="List the failed tasks of a queue",
            description="Your dead letters of it, the newest first.",
            path=(NAME,),
            query=PAGE_PARAMETERS,
            replies={200: Reply(description="A page.", model=DeadLetterList)},
            problems=(QueueNotFound,),
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """List them."""
        self.check()
        tenant_id = self.caller.tenant_id
        page = read_page_request(request, tenant_id)
        rows = dead_letters_listed(
            tenant_id=tenant_id,
            wanted=DeadLetterFilter(queue=self.name),
            most=page.limit + 1,
            position=page.position,
            is_backward=page.is_backward,
        )
        shown, links = page_of(
            request, tenant_id, page, rows, lambda row: (row["finished_at"], row["id"])
        )
        return Response({"results": shown, **links})
