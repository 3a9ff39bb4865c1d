"""What can go wrong, in one tree: `TaskmillError` catches all of it.

An `ApiError` is an answer of the server that says no; it carries the problem document (RFC 9457).
The others arise on this side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from taskmill_client.fields import TaskFields


class TaskmillError(Exception):
    """The root of all errors of this library."""


class ConfigurationError(TaskmillError):
    """The client cannot be made from what it was given; the text says what to set."""


class ApiError(TaskmillError):
    """The server refused a request.

    Attributes:
        status: HTTP status.
        code: public and stable, such as `validation_failed`; test this.
        title: what kind of problem it is, in words.
        detail: what happened this time.
        errors: the places that are wrong, as `{pointer, code, detail}`.
        request_id: names the request in the server's log.
        retry_after: seconds after which to try again; None where the server named none.
        problem: the whole document, with the members that only some problems have.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str = "",
        title: str = "",
        errors: Sequence[Mapping[str, Any]] = (),
        request_id: str = "",
        retry_after: float | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.errors = [dict(one) for one in errors]
        self.request_id = request_id
        self.retry_after = retry_after
        self.problem = dict(problem or {})

    def __str__(self) -> str:
        words = [f"{self.detail or self.title} ({self.code or self.status})"]
        places = [f"{one.get('pointer', '')}: {one.get('detail', '')}" for one in self.errors]
        words += [place for place in places if not self.detail.startswith(place)]
        return "\n  ".join(words)


class AuthenticationFailed(ApiError):
    """401: no API key was given, or it is not valid (any more)."""


class PermissionRefused(ApiError):
    """403: the API key lacks a scope."""


class NotFound(ApiError):
    """404 or 410: it does not exist, is not yours, or was purged (`code` is `task_purged`)."""


class Conflict(ApiError):
    """409 or 412: the state of the thing does not allow it."""


class ValidationRefused(ApiError):
    """400, 413, 415 or 422: the request is wrong; `errors` says where."""


class TooManyRequests(ApiError):
    """429: a limit or a quota is reached; `retry_after` says for how long."""


class ServerUnavailable(ApiError):
    """The server could not be reached, or answered 5xx; it may pass. `status` 0: no answer."""


class UnexpectedAnswer(ServerUnavailable):
    """What answered does not seem to be Taskmill; the URL is likely wrong."""


class WaitTimeout(TaskmillError):
    """The time to wait was over before the task finished; the task goes on.

    Attributes:
        task: as it was last seen; None where the server never answered.
    """

    def __init__(self, detail: str, task: TaskFields | None = None) -> None:
        super().__init__(detail)
        self.task = task


class TaskFailed(TaskmillError):
    """The task that was waited for ended without success.

    Attributes:
        task: the finished task; `task.error` says why.
    """

    def __init__(self, task: TaskFields) -> None:
        words = f": {task.error.message}" if task.error is not None else ""
        super().__init__(f"task {task.id} ({task.type}) ended as {task.status}{words}")
        self.task = task


class InvalidSignature(TaskmillError):
    """A webhook's signature is missing, wrong or too old: do not believe what it says."""


_BY_STATUS: Final[Mapping[int, type[ApiError]]] = {
    400: ValidationRefused,
    401: AuthenticationFailed,
    403: PermissionRefused,
    404: NotFound,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    413: ValidationRefused,
    415: ValidationRefused,
    422: ValidationRefused,
    429: TooManyRequests,
}


def error_class(status: int) -> type[ApiError]:
    """Give the class of an answer's status."""
    if status >= 500:  # noqa: PLR2004 - HTTP status
        return ServerUnavailable
    return _BY_STATUS.get(status, ApiError)
