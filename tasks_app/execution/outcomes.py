"""What an attempt came to, and how a result becomes the JSON text that the store keeps. Pure."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import ValidationError

from tasks_app.jsontext import has_nul, printed_bytes, why_not_json
from tasks_app.policies import ErrorInfo, describe_error
from tasks_app.registry import Handler

_SHOWN_FAULTS: Final = 5
_FRAME: Final = re.compile(r'^  File "([^"\n]+)", line \d+, in (\S+)', re.MULTILINE)
_FOREIGN: Final = (
    "/site-packages/",
    "/lib/python3",
    "/tasks_app/execution/",
    "/tasks_app/context.py",
    "<frozen ",
)
MAX_FRAME: Final = 200


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned; `result` is JSON text."""

    result: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised, or its payload does not fit; the policy decides what follows."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Unstorable:
    """The handler returned what cannot be stored: the task ends as `error`."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Stopped:
    """The handler stopped because the task was cancelled."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The handler learned that the lease is gone: nothing is written."""


Outcome = Succeeded | Failed | Unstorable | Stopped | Abandoned


def failed(error: BaseException) -> Failed:
    """Describe the exception that ended an attempt.

    With its traceback from the handler's frames on.
    """
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return Failed(describe_error(error, traceback="".join(lines)))


def payload_refused(error: ValidationError) -> Failed:
    """Describe a payload that does not fit its handler: permanent."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'payload'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    message = "the payload does not fit: " + "; ".join(faults[:_SHOWN_FAULTS])
    return Failed(
        ErrorInfo(
            code="INVALID_DATA", type="ValidationError", message=message[:2000], is_permanent=True
        )
    )


def store_result(handler: Handler, value: Any, *, max_bytes: int) -> Succeeded | Unstorable:
    """Turn what a handler returned into JSON text.

    Args:
        max_bytes: largest text, as the store prints it.
    """
    try:
        encoded = handler.encode_result(value)
        text = orjson.dumps(encoded)
    except (TypeError, ValueError, RecursionError) as error:
        return _unstorable("RESULT_NOT_STORABLE", f"the result is not JSON: {why_not_json(error)}")
    size = printed_bytes(text)
    if size > max_bytes:
        return _unstorable(
            "RESULT_TOO_LARGE",
            f"the result has {size} bytes of JSON, the limit is {max_bytes}; "
            "store the data elsewhere and return a reference to it",
        )
    if b"null" in text and _has_non_finite(encoded):
        return _unstorable("RESULT_NOT_STORABLE", "the result holds NaN or infinity; JSON cannot")
    if has_nul(text):
        return _unstorable("RESULT_NOT_STORABLE", "the result holds a NUL character")
    return Succeeded(text.decode())


def _unstorable(code: str, message: str) -> Unstorable:
    return Unstorable(ErrorInfo(code=code, type="taskmill", message=message[:2000]))


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_non_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_non_finite(item) for item in value)
    return False


def error_json(error: ErrorInfo, *, attempt: int, is_retryable: bool) -> str:
    """Give the `error` object of the API as JSON text that the store takes."""
    shown = error.public(attempt=attempt, is_retryable=is_retryable)
    cleaned = {
        key: storable(value) if isinstance(value, str) else value for key, value in shown.items()
    }
    return orjson.dumps(cleaned).decode()


def storable(text: str) -> str:
    """Replace what PostgreSQL's text cannot hold: NUL characters and lone surrogates."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def own_frame(traceback_text: str) -> str | None:
    """Give the innermost frame of the handler's own code, as `orders/handlers.py in charge`.

    Without its line, so that the cause of a failure stays the same when code above it changes.
    """
    own = [
        (path, function)
        for path, function in _FRAME.findall(traceback_text)
        if not any(part in path for part in _FOREIGN)
    ]
    if not own:
        return None
    path, function = own[-1]
    return f"{'/'.join(path.split('/')[-2:])} in {function}"[:MAX_FRAME]
