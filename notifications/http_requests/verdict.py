"""What follows from an answer of a called service: pure decisions, without clock or network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from notifications.webhooks.verdict import retry_after_seconds
from tasks_app.errors import Permanent, RetryLater, TaskError

MOST_REDIRECTS: Final = 5
_OK: Final = range(200, 300)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD: Final = frozenset({307, 308})
_PASSING: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_CODES: Final = {401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"} | {
    409: "CONFLICT",
    410: "NOT_FOUND",
}


def error_of_status(
    status: int, *, expected: Collection[int], retry_after: str, head: str, now: float
) -> TaskError | None:
    """Give what an answer's status means to the task; None where it is a success.

    Args:
        expected: statuses that are successes; empty for 200 to 299.
        retry_after: the header as it came. A 4xx that has one asks to be called again too.
        head: the beginning of the answer, for people.
        now: Unix seconds, for a `Retry-After` that is a date.
    """
    if status in (expected or _OK):
        return None
    text = f"the service answered {status}" + (f": {head}" if head else "")
    is_passing = status >= _SERVER_ERROR or status in _PASSING
    if is_passing or (status not in _REDIRECTS and retry_after):
        delay = retry_after_seconds(retry_after, now=now)
        if delay > 0:
            return RetryLater(delay, text, "SERVICE_UNAVAILABLE")
        return TaskError("SERVICE_UNAVAILABLE", text)
    if status in _REDIRECTS:
        return Permanent("REDIRECTED", f"the service answered {status}, which is not followed")
    return Permanent(_CODES.get(status, "INVALID_DATA"), text)


def error_of_fault(word: str, detail: str) -> TaskError:
    """Give what a request without an answer means to the task.

    Args:
        word: of `outbound.name_fault`.
    """
    if word == "refused":
        return Permanent("PERMISSION_DENIED", f"this address is not called: {detail}")
    return TaskError("NETWORK_ERROR", detail)


def next_request(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, status: int, location: str
) -> tuple[str, str, dict[str, str], bytes] | None:
    """Give the request that a redirect asks for; None where the answer is none.

    What the caller's headers say (tokens, cookies) stays with the origin that they were written
    for.
    """
    if status not in _REDIRECTS or not location:
        return None
    target = urljoin(url, location).partition("#")[0]
    kept = dict(headers) if _origin(target) == _origin(url) else {}
    if status in _SAME_METHOD or method in {"GET", "HEAD"}:
        return method, target, kept, body
    kept = {name: value for name, value in kept.items() if name.lower() != "content-type"}
    return "GET", target, kept, b""


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
