"""What can go wrong, as an exit code and a line for people. The codes are an interface."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from taskmill_client import (
    ApiError,
    AuthenticationFailed,
    ConfigurationError,
    Conflict,
    InvalidSignature,
    NotFound,
    PermissionRefused,
    ServerUnavailable,
    Task,
    TaskmillError,
    ValidationRefused,
    WaitTimeout,
)


class ExitCode(IntEnum):
    """What the command ends with."""

    OK = 0
    OTHER = 1
    USAGE = 2
    TASK_FAILED = 3
    TASK_STOPPED = 4
    WAIT_TIMEOUT = 5
    AUTHENTICATION = 6
    NOT_FOUND = 7
    CONFLICT = 8
    UNREACHABLE = 9
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.OK: "all went well; a task that was waited for succeeded",
    ExitCode.OTHER: "something else went wrong; the message says what",
    ExitCode.USAGE: "the command line is wrong, the platform refuses its values, or there is no"
    " terminal for a question",
    ExitCode.TASK_FAILED: "the task failed",
    ExitCode.TASK_STOPPED: "the task was cancelled or ran out of time",
    ExitCode.WAIT_TIMEOUT: "the task was not done within `--timeout`; it goes on",
    ExitCode.AUTHENTICATION: "the token is missing or refused, or lacks a scope",
    ExitCode.NOT_FOUND: "there is no such task, queue, schedule or type",
    ExitCode.CONFLICT: "the state of the task does not allow it, or a key is taken",
    ExitCode.UNREACHABLE: "the platform cannot be reached or is not able to answer",
    ExitCode.INTERRUPTED: "Ctrl-C",
}
"""What each code means; the reference page is made of it."""

_CODES: Final[tuple[tuple[type[TaskmillError], ExitCode], ...]] = (
    (ConfigurationError, ExitCode.USAGE),
    (ValidationRefused, ExitCode.USAGE),
    (WaitTimeout, ExitCode.WAIT_TIMEOUT),
    (AuthenticationFailed, ExitCode.AUTHENTICATION),
    (PermissionRefused, ExitCode.AUTHENTICATION),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (ServerUnavailable, ExitCode.UNREACHABLE),
    (InvalidSignature, ExitCode.OTHER),
)
_OUTCOMES: Final = {
    "success": ExitCode.OK,
    "failed": ExitCode.TASK_FAILED,
    "error": ExitCode.TASK_FAILED,
    "cancelled": ExitCode.TASK_STOPPED,
    "timeout": ExitCode.TASK_STOPPED,
}


class Refusal(Exception):
    """The command says no: a message, a hint and an exit code."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class ReaderGone(Exception):
    """Nobody reads standard output any more (`taskmill ls | head -1`); that is no fault."""


def outcome(task: Task) -> ExitCode:
    """Give the exit code that stands for how a task ended."""
    return outcome_of_status(str(task.status))


def outcome_of_status(status: str) -> ExitCode:
    """Give the exit code of a final status; `OTHER` for what is none."""
    return _OUTCOMES.get(status, ExitCode.OTHER)


def worst(codes: list[ExitCode]) -> ExitCode:
    """Give one code for several: a failure before a stop, before success."""
    order = (ExitCode.TASK_FAILED, ExitCode.TASK_STOPPED, ExitCode.OTHER)
    return next((code for code in order if code in codes), max(codes, default=ExitCode.OK))


def code_of(error: TaskmillError) -> ExitCode:
    """Give the exit code of an error of the library."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.OTHER


def lines_of(error: TaskmillError) -> list[str]:
    """Say in a few lines what the platform refused: the fault, its places, the request's id."""
    if not isinstance(error, ApiError):
        return [str(error) or type(error).__name__]
    found = [str(error.detail or error.title or error)]
    places = [fault for fault in error.errors or [] if fault.get("detail")]
    if len(places) > 1:
        found += [f"  {fault.get('pointer') or '/'}: {fault['detail']}" for fault in places]
    if error.request_id and code_of(error) in {ExitCode.OTHER, ExitCode.UNREACHABLE}:
        found.append(f"  request {error.request_id}")
    return found


def hint_of(error: TaskmillError) -> str:
    """Say what to do about an error; empty where its own text says it."""
    if isinstance(error, PermissionRefused):
        return "`taskmill doctor` shows what the token may do"
    if isinstance(error, AuthenticationFailed):
        return "`taskmill login` stores another token"
    if getattr(error, "code", "") == "unknown_task_type":
        return "`taskmill types ls` lists the types"
    return ""
