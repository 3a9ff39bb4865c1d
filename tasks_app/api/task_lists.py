"""`GET /tasks`: the query's filters, order and page, strictly read."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app import registry
from tasks_app.api.answers import TaskList
from tasks_app.api.operation import Operation, Parameter, Reply
from tasks_app.api.pagination import (
    PAGE_PARAMETERS,
    TEXT,
    PageRequest,
    checked_text,
    invalid_parameter,
    page_of,
    read_page_request,
    read_text,
)
from tasks_app.api.pagination import read_number as read_whole
from tasks_app.api.views import ApiView
from tasks_app.selectors import Place, TaskFilter, TaskOrder, task_object, task_rows, tasks_count
from tasks_app.selectors.serving import paused_queues, queues_without_worker
from tasks_app.states import PENDING, State, Status, states_of

MAX_OFFSET: Final = 10_000
COUNT_SHOWN: Final = 10_000
_SORTS: Final = ("created_at", "-created_at", "finished_at", "-finished_at")
_SORT: Final = {"type": "string", "enum": list(_SORTS), "default": "-created_at"}
WAITING: Final = ("queue_paused", "no_worker", "not_before", "concurrency_limit", "rate_limit")
"""Reasons that follow from a task's state or its queue. The others are decided by what goes on in
the queue at the moment and hold for all of its ready tasks: `queue` and `state` list these.
"""
_INSTANT: Final = {"type": "string", "format": "date-time"}


def _words(known: Iterable[str]) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", "enum": list(known)}}


def _one(known: Iterable[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(known)}


def _parameters() -> Iterator[Parameter]:
    filters: dict[str, tuple[str, dict[str, Any]]] = {
        "status": ("Any of these, repeated or joined by commas.", _words(Status)),
        "state": ("Any of these, repeated or joined by commas.", _words(State)),
        "waiting": ("Pending for this reason, perhaps among others.", _one(WAITING)),
        "type": ("Task type.", TEXT),
        "queue": ("Queue.", TEXT),
        "tag": ("All of these.", {"type": "array", "items": TEXT}),
        "concurrency_key": ("Concurrency key.", TEXT),
        "schedule": ("Key of the schedule that fired them.", TEXT),
        "parent": ("Task that submitted them.", {"type": "string", "format": "uuid"}),
        "created_after": ("Submitted at this instant or later.", _INSTANT),
        "created_before": ("Submitted before this instant.", _INSTANT),
        "q": ("A task type, or how the id begins.", TEXT),
        "sort": ("`-` is the newest first.", _SORT),
        "offset": (
            "Rows to pass over; use `cursor` for more.",
            {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0},
        ),
        "count": ("Count what fits.", {"type": "boolean", "default": False}),
    }
    for name, (description, schema) in filters.items():
        yield Parameter(name=name, description=description, schema=schema)
    yield from PAGE_PARAMETERS


PARAMETERS: Final = tuple(_parameters())
_STATES_WAITING: Final = {
    "not_before": frozenset({State.SCHEDULED, State.RETRYING}),
    "concurrency_limit": frozenset({State.BLOCKED}),
    "rate_limit": frozenset({State.BLOCKED}),
}
_BLOCKED_BY: Final = {"concurrency_limit": "slots", "rate_limit": "rate"}
_ID_PREFIX: Final = re.compile(r"^[0-9a-f][0-9a-f-]{0,35}$", re.IGNORECASE)


class TaskListing(ApiView):
    """The GET of `/tasks`."""

    scopes = {"GET": "tasks:read"}
    operations = {
        "GET": Operation(
            name="list_tasks",
            tag="tasks",
            summary="List tasks",
            description=(
                "The newest first unless `sort` says otherwise. Where payloads and results are"
                " large, a page is shorter than `limit`: it ends after 8 MiB; `next` goes on."
            ),
            query=PARAMETERS,
            replies={200: Reply(description="A page of tasks.", model=TaskList)},
        )
    }

    def get(self, request: Request, **_: Any) -> Response:
        """List tasks, the newest first unless `sort` says otherwise."""
        tenant_id = self.caller.tenant_id
        wanted = read_filter(request)
        sort = _read_choice(request, "sort", _SORTS, default="-created_at")
        page = read_page_request(request, tenant_id)
        order = _read_order(request, sort, page)
        rows, has_more = task_rows(tenant_id=tenant_id, wanted=wanted, order=order)
        shown, links = page_of(
            request, tenant_id, page, rows, _position_in(sort), has_more=has_more
        )
        body: dict[str, Any] = {"results": [task_object(row) for row in shown], **links}
        if _read_choice(request, "count", ("true", "false"), default="false") == "true":
            count = tasks_count(tenant_id=tenant_id, wanted=wanted)
            body["count"] = min(count, COUNT_SHOWN)
            body["count_is_capped"] = count > COUNT_SHOWN
        return Response(body)


def read_filter(request: Request) -> TaskFilter:
    """Read the filters of the query.

    Raises:
        ValidationFailed: a wrong value; pointers are `/query/<name>`.
    """
    query = request.query_params
    task_type, id_prefix = _read_search(request)
    states, queues = _read_waiting(request)
    return TaskFilter(
        states=states,
        queues=queues,
        type=task_type,
        queue=read_text(request, "queue"),
        concurrency_key=read_text(request, "concurrency_key"),
        schedule=read_text(request, "schedule"),
        parent=_read_id(request, "parent"),
        tags=tuple(checked_text("tag", tag) for tag in query.getlist("tag")),
        created_after=_read_instant(request, "created_after"),
        created_before=_read_instant(request, "created_before"),
        id_prefix=id_prefix,
        blocked_by=_BLOCKED_BY.get(query.get("waiting", "")),
    )


def _read_search(request: Request) -> tuple[str | None, str | None]:
    task_type, search = read_text(request, "type"), read_text(request, "q")
    if search is None:
        return task_type, None
    known = {handler.type for handler in registry.all_handlers()}
    if search not in known and _ID_PREFIX.match(search):
        return task_type, search.replace("-", "").lower()[:32]
    if task_type not in {None, search}:
        raise invalid_parameter("q", "q names another type than `type`")
    return search, None


def _read_states(request: Request) -> tuple[str, ...]:
    query = request.query_params
    if "status" not in query and "state" not in query:
        return ()
    chosen = set(State)
    if "status" in query:
        words = _read_words(request, "status", [status.value for status in Status])
        chosen &= {state for word in words for state in states_of(word)}
    if "state" in query:
        chosen &= {State(word) for word in _read_words(request, "state", list(State))}
    if not chosen:
        raise invalid_parameter("state", "no task can have this status and this state")
    return tuple(sorted(state.value for state in chosen))


def _read_waiting(request: Request) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Give the states and, where the reason is the queue's, the queues that are meant."""
    states = _read_states(request)
    if "waiting" not in request.query_params:
        return states, None
    reason = _read_choice(request, "waiting", WAITING, default="")
    of_reason = _STATES_WAITING.get(reason, PENDING)
    chosen = tuple(sorted(of_reason if not states else of_reason & set(states)))
    if not chosen:
        raise invalid_parameter("waiting", "no task of this state or status waits for this reason")
    if reason == "queue_paused":
        return chosen, tuple(paused_queues())
    return chosen, tuple(queues_without_worker()) if reason == "no_worker" else None


def _read_words(request: Request, name: str, known: list[Any]) -> list[str]:
    words = [word for text in request.query_params.getlist(name) for word in text.split(",")]
    for word in words:
        if word not in known:
            raise invalid_parameter(name, f"{name} is one of {', '.join(known)}")
    return words


def _read_id(request: Request, name: str) -> uuid.UUID | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise invalid_parameter(name, "write the UUID of a task") from error


def _read_instant(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise invalid_parameter(
            name, "write an ISO 8601 instant with its offset, such as 2027-01-31T09:00:00Z"
        )
    return instant


def _read_choice(request: Request, name: str, known: tuple[str, ...], *, default: str) -> str:
    word = request.query_params.get(name, default)
    if word not in known:
        raise invalid_parameter(name, f"{name} is one of {', '.join(known)}")
    return word


def _read_order(request: Request, sort: str, page: PageRequest) -> TaskOrder:
    offset = read_whole(request, "offset", default=0, least=0, most=MAX_OFFSET)
    return TaskOrder(
        by=sort.lstrip("-"),
        is_descending=sort.startswith("-"),
        limit=page.limit,
        place=_place_of(sort, page),
        is_backward=page.is_backward,
        offset=offset if page.position is None else 0,
    )


def _place_of(sort: str, page: PageRequest) -> Place | None:
    if page.position is None:
        return None
    if page.position[0] != sort:
        raise invalid_parameter("cursor", "this cursor belongs to another order")
    _, task_id, at = page.position
    return Place(id=uuid.UUID(task_id), at=datetime.fromisoformat(at) if at else None)


def _position_in(sort: str) -> Callable[[dict[str, Any]], list[Any]]:
    is_by_finish = sort.endswith("finished_at")

    def position_of(row: dict[str, Any]) -> list[Any]:
        return [sort, row["id"], row["finished_at"] if is_by_finish else None]

    return position_of
