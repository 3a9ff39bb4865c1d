"""Every error of the platform in one tree; the docstring of a class is its default message.

Raised everywhere, mapped to answers in one place (`tasks_app.api.problems`). Request errors can be
fixed by the caller, infrastructure errors pass with time, `LeaseLost` stops a worker quietly,
configuration errors refuse to start. `code` is public and stable; the problem pages in
docs/reference/errors.md are generated from this tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class TaskmillError(Exception):
    """Something went wrong inside Taskmill."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    is_retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, **fields: Any) -> None:
        doc = (type(self).__doc__ or "").strip().split("\n")[0]
        self.detail = detail or doc
        self.fields = fields
        super().__init__(self.detail)


class RequestError(TaskmillError):
    """The request cannot be carried out as it stands; change it and send it again."""

    code = "bad_request"
    http_status = 400


class ValidationFailed(RequestError):
    """The request does not fit its schema; `errors` names each place, the first 50 of many.

    Fields: `errors`: list of `{pointer, code, detail}` with RFC 6901 pointers into the body;
    `more_errors`: how many more there are, where they are too many to list.
    """

    code = "validation_failed"
    http_status = 422
    most_errors: ClassVar[int] = 50

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[dict[str, str]] = (),
        more_errors: int = 0,
        **fields: Any,
    ) -> None:
        more_errors += max(len(errors) - self.most_errors, 0)
        if more_errors:
            fields["more_errors"] = more_errors
        super().__init__(detail, errors=list(errors[: self.most_errors]), **fields)

    @property
    def errors(self) -> list[dict[str, str]]:
        """The places that are wrong, as `{pointer, code, detail}`."""
        return list(self.fields.get("errors", []))


class NotAuthenticated(RequestError):
    """Send a valid API key as `Authorization: Bearer tm_...`; unknown, expired or revoked."""

    code = "not_authenticated"
    http_status = 401


class ScopeMissing(RequestError):
    """The API key lacks the scope that this call needs."""

    code = "scope_missing"
    http_status = 403


class Forbidden(RequestError):
    """This is not open to you."""

    code = "forbidden"
    http_status = 403


class MethodNotAllowed(RequestError):
    """This address does not take that method; `Allow` lists those it takes."""

    code = "method_not_allowed"
    http_status = 405


class UnsupportedMediaType(RequestError):
    """Send the body as `Content-Type: application/json`."""

    code = "unsupported_media_type"
    http_status = 415


class MalformedJson(RequestError):
    """The body is not JSON."""

    code = "malformed_json"


class TaskNotFound(RequestError):
    """There is no such task; finished tasks are purged after their retention."""

    code = "task_not_found"
    http_status = 404


class TaskPurged(TaskNotFound):
    """The task has finished and was purged, by its retention or by hand; it does not come back."""

    code = "task_purged"
    http_status = 410


class NotFound(RequestError):
    """There is nothing at this address."""

    code = "not_found"
    http_status = 404


class QueueNotFound(RequestError):
    """There is no such queue: it has no row, no worker, no task type and no task of yours."""

    code = "queue_not_found"
    http_status = 404


class TooManyQueues(RequestError):
    """No submission makes another queue: there are as many as allowed. An operator can make it.

    Fields: `queue`, `limit`.
    """

    code = "too_many_queues"
    http_status = 422


class QueueExists(RequestError):
    """There is a queue of this name already; change it with PATCH."""

    code = "queue_exists"
    http_status = 409


class ConcurrencyKeyNotFound(RequestError):
    """There is no such concurrency key: no unfinished task of yours has it, no limit is pinned."""

    code = "concurrency_key_not_found"
    http_status = 404


class PacedRetryNotFound(RequestError):
    """There is no such retry of dead letters; ended ones are kept as long as dead letters."""

    code = "paced_retry_not_found"
    http_status = 404


class UnknownTaskType(RequestError):
    """No handler of this type is registered; `GET /api/v1/task-types` lists those that are."""

    code = "unknown_task_type"
    http_status = 404


class StateConflict(RequestError):
    """The task's state does not allow this; read it again to see what happened meanwhile."""

    code = "state_conflict"
    http_status = 409


class NotFinished(RequestError):
    """The task has not finished yet; wait for `done`."""

    code = "not_finished"
    http_status = 409
    is_retryable = True


class DuplicateTask(RequestError):
    """A live task already holds this unique key; `task_id` names it (`id` in a bulk)."""

    code = "duplicate_task"
    http_status = 409


class QuotaExceeded(RequestError):
    """As much waits or was accepted as the quota allows; wait for `Retry-After` seconds.

    Fields: `scope` (`tenant` or `queue`), `queue` where it is one, `quota` (such as
    `max_waiting`), `limit`, `used`, `retry_after` seconds.
    """

    code = "quota_exceeded"
    http_status = 429
    is_retryable = True


class TaskTooDeep(RequestError):
    """Tasks submitted tasks that submitted tasks, deeper than allowed; does one submit itself?"""

    code = "task_too_deep"
    http_status = 422


class TooManyChildren(RequestError):
    """The task has submitted as many tasks as one may; submit fewer, or more to each."""

    code = "too_many_children"
    http_status = 422


class IdempotencyConflict(RequestError):
    """A request with this Idempotency-Key is still being carried out; try again shortly."""

    code = "idempotency_in_flight"
    http_status = 409
    is_retryable = True


class IdempotencyMismatch(RequestError):
    """This Idempotency-Key was used for another request; use a new key for a new request."""

    code = "idempotency_mismatch"
    http_status = 422


class PreconditionFailed(RequestError):
    """The task changed since the version named in If-Match; read it again."""

    code = "precondition_failed"
    http_status = 412


class PayloadTooLarge(RequestError):
    """The body or payload is larger than the limit; store the data elsewhere, submit a link."""

    code = "payload_too_large"
    http_status = 413


class RateLimited(RequestError):
    """Too many requests with this API key; wait for `Retry-After` seconds."""

    code = "rate_limited"
    http_status = 429
    is_retryable = True


class InfrastructureError(TaskmillError):
    """A part that Taskmill needs does not answer; try again."""

    code = "unavailable"
    http_status = 503
    is_retryable = True


class StoreUnavailable(InfrastructureError):
    """The database does not answer; nothing was accepted, repeat with the same Idempotency-Key."""

    code = "store_unavailable"


class BrokerUnavailable(InfrastructureError):
    """The broker takes no messages; tasks wait in the database and are sent when it returns."""

    code = "broker_unavailable"


class LeaseLost(TaskmillError):
    """The lease on this attempt is gone; another worker may own the task, so this one stops."""

    code = "lease_lost"


class ConfigurationError(TaskmillError):
    """The configuration does not allow a start."""

    code = "configuration_error"


class HandlerDeclarationError(ConfigurationError):
    """A handler is declared wrongly."""

    code = "handler_declaration_error"


class NotAdoptable(ConfigurationError):
    """A tracked task cannot do what is asked of this Celery task."""

    code = "not_adoptable"


class TaskError(Exception):
    """Raised by handlers to end an attempt with a public error code.

    Args:
        code: upper-case identifier shown to clients, such as `INVALID_DATA`; at most 64 characters.
        message: one sentence for people; at most 2,000 characters are kept.
    """

    is_permanent: ClassVar[bool] = False

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code[:64]
        self.message = (message or code)[:2000]


class Permanent(TaskError):
    """The task can never succeed: ends as `failed` at once, whatever attempts remain."""

    is_permanent = True


class RetryLater(TaskError):
    """The attempt should be repeated after `after` seconds, while attempts remain.

    Args:
        after: seconds until the next attempt, 0 to 2,592,000 (30 days).
    """

    def __init__(self, after: float, message: str = "", code: str = "RETRY_LATER") -> None:
        super().__init__(code, message or f"asked to be retried in {after} s")
        self.after_seconds = min(max(float(after), 0.0), 2_592_000.0)


class TaskCancelled(BaseException):
    """Raised inside a handler by `ctx.check_cancelled()` once the task was asked to stop.

    A `BaseException`, so that `except Exception` in handlers does not swallow it.
    """


class ProcessTimeout(BaseException):
    """Raised inside a handler when its process timeout is over; cleanup has the kill grace left."""


def title_of(kind: type[TaskmillError]) -> str:
    """Give the short name of a kind of error: `TaskNotFound` is "Task not found"."""
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in kind.__name__)
    return words.strip().capitalize()


def _all_below(kind: type[TaskmillError]) -> list[type[TaskmillError]]:
    """Give the subclasses of whatever app, each once."""
    found = {one: None for child in kind.__subclasses__() for one in (child, *_all_below(child))}
    return list(found)


def known_problems() -> list[dict[str, Any]]:
    """Give every error that a request can meet: `{code, status, title, text, is_retryable}`."""
    kinds: list[type[TaskmillError]] = [TaskmillError, RequestError, InfrastructureError]
    for kind in kinds[1:]:
        kinds += _all_below(kind)
    found = [
        {
            "code": kind.code,
            "status": kind.http_status,
            "title": title_of(kind),
            "text": (kind.__doc__ or "").strip().split("\n")[0],
            "is_retryable": kind.is_retryable,
        }
        for kind in kinds
    ]
    return sorted(found, key=lambda problem: str(problem["code"]))
