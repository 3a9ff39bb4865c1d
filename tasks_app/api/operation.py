"""What a view says about each of its methods: the one source of the OpenAPI document.

A view declares `operations`: method -> `Operation`. What follows from it (problems of a missing
key, of a wrong body, of an idempotency key, the headers of every answer) is added by
`tasks_app.api.schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import BaseModel

from tasks_app.errors import TaskmillError
from tasks_app.selectors.shapes import AcceptedCopy, AcceptedTask, ShownSubmission


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the query.

    Attributes:
        schema: JSON Schema; lists are given by repeating the parameter.
    """

    name: str
    description: str
    schema: Mapping[str, Any]


WATCH_TOKEN: Final = Parameter(
    name="token",
    description="A watch token, instead of an API key.",
    schema={"type": "string"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A successful answer.

    Attributes:
        model: pydantic model of the body; None for any JSON.
        has_body: False for an answer without one.
        headers: names of `REPLY_HEADERS` that it may carry beside those of every answer.
        media_type: of the body.
    """

    description: str
    model: Any = None
    has_body: bool = True
    headers: tuple[str, ...] = ()
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address.

    Attributes:
        name: unique; generated clients name their functions after it.
        body: pydantic model of the request's body; None without a body.
        any_body: the body may be any JSON.
        is_body_required: False where an empty body is taken too.
        media_types: of the body.
        path: parameters of the address beside a task's id and type.
        headers: names of `REQUEST_HEADERS` that it reads.
        problems: what can go wrong beyond what follows from the rest.
    """

    name: str
    tag: str
    summary: str
    description: str
    replies: Mapping[int, Reply]
    body: type[BaseModel] | None = None
    any_body: bool = False
    is_body_required: bool = True
    media_types: tuple[str, ...] = ("application/json",)
    query: tuple[Parameter, ...] = ()
    path: tuple[Parameter, ...] = ()
    headers: tuple[str, ...] = ()
    problems: tuple[type[TaskmillError], ...] = field(default=())

    @property
    def takes_body(self) -> bool:
        """Whether a body is read at all."""
        return self.body is not None or self.any_body


REQUEST_HEADERS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "Idempotency-Key": (
        {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
        "Repeat a request safely: the first answer is replayed for 24 hours.",
    ),
    "Prefer": (
        {"type": "string"},
        "`wait=N` waits up to N seconds before it answers; more than 60 are 60.",
    ),
    "If-Match": (
        {"type": "string"},
        "The ETag of the version to change; 412 when there is a newer one.",
    ),
    "If-None-Match": (
        {"type": "string"},
        "The ETag of the version that is known; 304 while the task has no other.",
    ),
    "X-Request-Id": (
        {"type": "string"},
        "Names the request: 1 to 128 of A-Z, a-z, 0-9 and ._~:/+=-; made up where it is not such.",
    ),
    "traceparent": (
        {"type": "string"},
        "W3C trace context, handed to the handler; ignored where it is none.",
    ),
}
REPLY_HEADERS: Final[Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "X-Request-Id": ({"type": "string"}, "The request's id."),
    "RateLimit": ({"type": "string"}, "Requests left, and the seconds until more are given."),
    "RateLimit-Policy": ({"type": "string"}, "The limit of the key and its window in seconds."),
    "Location": ({"type": "string"}, "Where it is: the task, or what was made."),
    "Retry-After": ({"type": "integer", "minimum": 1}, "Seconds to wait before asking again."),
    "ETag": ({"type": "string", "pattern": r'^"\d+"$'}, "The task's version."),
    "Idempotency-Replayed": (
        {"type": "string", "const": "true"},
        "This is the remembered answer of an earlier request with the same key.",
    ),
    "Preference-Applied": ({"type": "string"}, "How long the answer may have waited."),
    "WWW-Authenticate": ({"type": "string"}, "How to authenticate."),
}
_SUBMITTED: Final = ("Location", "Retry-After", "ETag", "Idempotency-Replayed")
TASK_ACCEPTED: Final = Reply(
    description="Accepted: the task is stored and will run.",
    model=AcceptedTask,
    headers=_SUBMITTED,
)
COPY_ACCEPTED: Final = replace(TASK_ACCEPTED, model=AcceptedCopy)
TASK_AT_ONCE: Final = Reply(
    description=(
        "The task has finished within `Prefer: wait`, or it is the one that holds the unique key or"
        " waits under the debounce key."
    ),
    model=ShownSubmission,
    headers=(*_SUBMITTED, "Preference-Applied"),
)
SUBMISSION_HEADERS: Final = ("Idempotency-Key", "Prefer", "traceparent")
