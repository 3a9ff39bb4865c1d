"""Views that may wait for a task: the synchronous part answers, the wait holds no thread.

`Prefer: wait=N` (RFC 7240) asks for it. A view puts a `Wait` into `response.wait`; the wrapper
gives the database connection back, waits in the hub, and lets the answer say what became of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from typing_extensions import override

from tasks_app.api.problems import problem_response, translate
from tasks_app.api.views import ApiView
from tasks_app.api.waiting import Wait, waiting_hub
from tasks_app.errors import RateLimited, TaskNotFound
from tasks_app.selectors import find_task, task_object, waiting_reasons
from tasks_app.selectors.task_object import task_receipt
from tasks_app.states import FINISHED, PENDING

MAX_WAIT_SECONDS: Final = 60
POLL_SECONDS: Final = 1
ACCEPTED: Final = 202
_DIGITS: Final = 9
_WAIT: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?0*(\d+)"?\s*(?=$|[,;])', re.IGNORECASE)


def preferred_wait(request: Request) -> int | None:
    """Give the seconds of `Prefer: wait=N`, at most 60; None without it."""
    found = _WAIT.search(request.headers.get("Prefer", ""))
    if found is None:
        return None
    digits = found.group(1)
    return min(int(digits), MAX_WAIT_SECONDS) if len(digits) <= _DIGITS else MAX_WAIT_SECONDS


class WaitingResponse(Response):
    """A response that is to be sent when `wait` is over; at once where that is None.

    Attributes:
        is_receipt: it shows what became of a task and not what is in it.
    """

    wait: Wait | None = None
    is_receipt: bool = False


class WaitingView(ApiView):
    """An endpoint whose responses may carry a wait."""

    @classmethod
    @override
    def as_view(cls, **initkwargs: Any) -> Any:
        """Give the asynchronous view."""
        plain = super().as_view(**initkwargs)

        async def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            response = await sync_to_async(_answered)(plain, request, args, kwargs)
            if isinstance(response, WaitingResponse) and response.wait is not None:
                return await sync_to_async(await _waited(request, response, response.wait))()
            return response

        view.plain = plain  # type: ignore[attr-defined]  # for ApiApplication
        view.waited = _waited  # type: ignore[attr-defined]
        view.cls = cls  # type: ignore[attr-defined]  # what DRF and its schema tools look for
        view.initkwargs = initkwargs  # type: ignore[attr-defined]
        view.csrf_exempt = True  # type: ignore[attr-defined]
        return view


def _answered(
    plain: Callable[..., Any], request: HttpRequest, args: Any, kwargs: Any
) -> HttpResponseBase:
    response: HttpResponseBase = plain(request, *args, **kwargs)
    if isinstance(response, WaitingResponse) and response.wait is not None:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()
    return response


async def _waited(
    request: HttpRequest, response: WaitingResponse, wait: Wait
) -> Callable[[], HttpResponseBase]:
    """Wait, and give what makes the final response, to be called in a thread."""
    try:
        await waiting_hub().wait(wait)
    except RateLimited as error:
        if request.method == "GET":
            return partial(problem_response, error, request)
        return partial(_as_it_is, response)
    return partial(_settled, request, response, wait)


def _as_it_is(response: WaitingResponse) -> WaitingResponse:
    response.wait = None
    return response


def _settled(request: HttpRequest, response: WaitingResponse, wait: Wait) -> HttpResponseBase:
    """Show what became of the task.

    Where that cannot be learned (it was purged since, the database is away), a submission keeps its
    answer of before the wait: it has been accepted.
    """
    response.wait = None
    status = response.status_code
    try:
        _show_end(response, wait)
    except (TaskNotFound, OperationalError, InterfaceError) as error:
        response.status_code = status
        return problem_response(translate(error), request) if request.method == "GET" else response
    response["Preference-Applied"] = f"wait={int(wait.seconds)}"
    return response


def _show_end(response: WaitingResponse, wait: Wait) -> None:
    row = find_task(tenant_id=wait.tenant_id, task_id=wait.task_id, is_shown=True)
    is_finished = row["state"] in FINISHED
    if response.status_code != ACCEPTED or is_finished:
        response.status_code = 200
    watch = response.data.get("watch") if isinstance(response.data, dict) else None
    show(response, row, is_same=wait.version == row["version"])
    if watch is not None and not is_finished:
        response.data["watch"] = watch


def show(response: WaitingResponse, row: dict[str, Any], *, is_same: bool = False) -> None:
    """Put a task into a response: body, ETag and Retry-After.

    Args:
        is_same: the client has this version, so the answer is 304.
    """
    response.data = None if is_same else _shown(response, row)
    response["ETag"] = f'"{row["version"]}"'
    if row["state"] in FINISHED:
        response.headers.pop("Retry-After", None)
    else:
        response["Retry-After"] = str(POLL_SECONDS)
    if is_same:
        response.status_code = HTTPStatus.NOT_MODIFIED
    elif response.status_code == HTTPStatus.NOT_MODIFIED:  # it was the same before the wait
        response.status_code = HTTPStatus.OK


def _shown(response: WaitingResponse, row: dict[str, Any]) -> dict[str, Any]:
    if response.is_receipt:
        return task_receipt(task_object(row))
    waiting = None
    if row["state"] in PENDING:
        waiting = waiting_reasons(tenant_id=row["tenant_id"], task_id=row["id"])
    return task_object(row, waiting=waiting)
