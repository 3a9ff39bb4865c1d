"""Streams of events: one task's, and everything that a caller may see.

The synchronous part authenticates and reads where the stream begins; the stream itself runs on the
event loop and holds neither a thread nor a database connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from typing_extensions import override

from tasks_app.api.authentication import WatchAuthentication
from tasks_app.api.operation import WATCH_TOKEN, Operation, Parameter, Reply
from tasks_app.api.pagination import invalid_parameter
from tasks_app.api.problems import problem_response
from tasks_app.api.sse import EventStream, Opening
from tasks_app.api.tasks import TaskView, parse_task_id
from tasks_app.api.views import ApiView
from tasks_app.conf import conf
from tasks_app.errors import RateLimited, ScopeMissing, TaskNotFound, ValidationFailed
from tasks_app.feed import Wanted, feed_bounds, feed_hub, sequence_of_last_event
from tasks_app.selectors import find_state, find_task
from tasks_app.services.watch import Watch
from tasks_app.services.watching import begin_watching
from tasks_app.states import FINISHED

_CURSOR: Final = Parameter(
    name="last_event_id",
    description="Resume after the event with this id, as the header `Last-Event-ID` does.",
    schema={"type": "integer", "minimum": 0},
)
_STREAM: Final = Reply(
    description="Server-sent events (text/event-stream) whose data are CloudEvents.",
    media_type="text/event-stream",
)


def _words(name: str, description: str) -> Parameter:
    return Parameter(name=name, description=description, schema={"type": "string"})


class LiveResponse(Response):
    """A response that becomes a stream on the event loop."""

    opening: Opening


class StreamView(ApiView):
    """An endpoint that may answer with a stream."""

    authentication_classes = [WatchAuthentication]

    @classmethod
    @override
    def as_view(cls, **initkwargs: Any) -> Any:
        """Give the asynchronous view."""
        plain = super().as_view(**initkwargs)

        async def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            def answered() -> HttpResponseBase:
                response: HttpResponseBase = plain(request, *args, **kwargs)
                if isinstance(response, LiveResponse):
                    for one in connections.all(initialized_only=True):
                        if not one.in_atomic_block:
                            one.close()
                return response

            response = await sync_to_async(answered)()
            return streamed(request, response) if is_live(response) else response

        view.plain = plain  # type: ignore[attr-defined]  # for ApiApplication
        view.cls = cls  # type: ignore[attr-defined]  # what DRF and its schema tools look for
        view.initkwargs = initkwargs  # type: ignore[attr-defined]
        view.csrf_exempt = True  # type: ignore[attr-defined]
        return view

    @property
    def watch(self) -> Watch | None:
        """What the caller's watch token covers; None for an API key."""
        return self.principal.watch

    def live(self, wanted: Wanted, **fields: Any) -> LiveResponse:
        """Give the stream of what is wanted; `fields` are those of `Opening`."""
        watch = self.watch
        response = LiveResponse()
        response.opening = Opening(
            wanted=wanted,
            holder=self.principal.key_id,
            key_id=self.principal.key_id if watch is None else watch.key_id,
            **fields,
        )
        return response


class TaskStream(StreamView, TaskView):
    """`GET /tasks/{id}/stream`: one task as server-sent events, from a snapshot to its end."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="stream_task",
            tag="streams",
            summary="Stream one task",
            description="A snapshot, then its events; the final one ends the stream.",
            query=(_CURSOR, WATCH_TOKEN),
            replies={
                200: _STREAM,
                204: Reply(description="The client has seen the end.", has_body=False),
            },
            problems=(ValidationFailed,),
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """Stream the task; 204 where the client has seen its end."""
        tenant_id, task_id = self.caller.tenant_id, self.task_id
        wanted = Wanted(tenant_id=tenant_id, tasks=frozenset({task_id}))
        after = read_cursor(request)
        with connection.cursor() as cursor:
            bounds = feed_bounds(cursor)
            if after is not None and bounds.has(after):
                state, _version = find_state(tenant_id=tenant_id, task_id=task_id)
                last = sequence_of_last_event(cursor, task_id) if state in FINISHED else None
                if last is not None and last <= after:
                    return Response(status=204)
                return self.live(wanted, after=after, ends_when_finished=True)
        return self.live(
            wanted,
            after=bounds.last,
            snapshots=[find_task(tenant_id=tenant_id, task_id=task_id)],
            is_reset=after is not None,
            ends_when_finished=True,
        )


class EventsStream(StreamView):
    """`GET /events/stream`: the events of all, or of some tasks, tags or types, as they happen."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="stream_events",
            tag="streams",
            summary="Stream events",
            description="Everything that fits all filters, as it happens.",
            query=(
                _words("tasks", "Ids, comma separated: only these tasks, with a snapshot of each."),
                _words("tags", "Comma separated: tasks with one of these tags."),
                _words(
                    "types",
                    "Event types, comma separated; without it, those of tasks but for inner steps."
                    " Those of queues and workers need the scope `tasks:admin`, those of schedules"
                    " `schedules:write`.",
                ),
                _CURSOR,
                WATCH_TOKEN,
            ),
            replies={200: _STREAM},
            problems=(TaskNotFound, ScopeMissing),
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """Stream events, with a snapshot of each task that is named."""
        begin = begin_watching(
            self.principal,
            tasks=[parse_task_id(one) for one in read_words(request, "tasks")],
            tags=read_words(request, "tags"),
            types=read_words(request, "types"),
            after=read_cursor(request),
            place="/query",
        )
        return self.live(
            begin.wanted,
            after=begin.after,
            snapshots=begin.snapshots,
            is_reset=begin.is_reset,
        )


def read_words(request: Request, name: str) -> list[str]:
    """Read a comma-separated list of the query, which may be repeated."""
    texts: Iterable[str] = request.query_params.getlist(name)
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def read_cursor(request: Request) -> int | None:
    """Read where to resume: the header, which a reconnecting browser sends, before the query.

    Raises:
        ValidationFailed: it is not the id of an event.
    """
    text = request.headers.get("Last-Event-ID") or request.query_params.get("last_event_id")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):  # noqa: PLR2004 - fits a bigint
        raise invalid_parameter("last_event_id", "last_event_id is the id of an event")
    return int(text)


def is_live(response: HttpResponseBase) -> bool:
    """Say whether a response is to become a stream."""
    return hasattr(response, "opening")


def streamed(request: HttpRequest, response: Any) -> HttpResponseBase:
    """Give the stream of a response; called on the event loop.

    Returns:
        The stream, with an attribute `events` (`EventStream`); 429 where the caller has too many.
    """
    opening: Opening = response.opening
    most = conf().max_streams_per_key
    if feed_hub().count(opening.holder) >= most:
        error = RateLimited(f"{most} streams are open; close one first", retry_after=5)
        return problem_response(error, request)
    events = EventStream(opening)
    live = StreamingHttpResponse(events.body(), content_type="text/event-stream")
    for name, value in response.headers.items():
        live.headers.setdefault(name, value)
    live.headers.pop("Content-Length", None)
    live["X-Accel-Buffering"] = "no"
    live.events = events  # type: ignore[attr-defined]  # for ApiApplication
    return live
