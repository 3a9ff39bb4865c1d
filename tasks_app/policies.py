"""Retry policies: pure decisions on what follows a failed attempt.

Called by the runner with the error of an attempt; answers with the next state and delay. Never
touches a database or a clock. Delays are in seconds. Defaults are those of S6 in the mission:
permanent codes are never retried, temporary codes back off 1 s doubling to 60 s, everything else
waits 5 s.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tasks_app.errors import HandlerDeclarationError, ProcessTimeout, RetryLater, TaskError

PERMANENT_CODES: Final = frozenset({"INVALID_DATA", "PERMISSION_DENIED", "NOT_FOUND"})
TEMPORARY_CODES: Final = frozenset({"TIMEOUT", "NETWORK_ERROR", "SERVICE_UNAVAILABLE"})
MAX_DELAY_SECONDS: Final = 2_592_000.0
_MAX_EXPONENT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What went wrong in an attempt, as clients see it.

    Attributes:
        code: stable identifier, at most 64 characters.
        type: class name of the exception.
        message: at most 2,000 characters.
        is_permanent: the handler said that no retry can help.
        is_process_timeout: the platform stopped the attempt at its process timeout (code
            `TIMEOUT`).
        retry_after_seconds: delay asked for by the handler, or None.
        traceback: text for operators (scope `tasks:admin`), at most 64 KiB.
    """

    code: str
    type: str
    message: str
    is_permanent: bool = False
    is_process_timeout: bool = False
    retry_after_seconds: float | None = None
    traceback: str = ""

    def public(self, *, attempt: int, is_retryable: bool) -> dict[str, Any]:
        """Give the `error` object of the API, without the traceback."""
        return {
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "retryable": is_retryable,
            "attempt": attempt,
        }


def describe_error(error: BaseException, *, traceback: str = "") -> ErrorInfo:
    """Turn an exception of a handler into its public description.

    Codes: `TaskError.code`; `TIMEOUT` for `TimeoutError`; `NETWORK_ERROR` for `ConnectionError` and
        `socket.gaierror`;
    a string attribute `code` of the exception where it is one of the known codes; else
    `HANDLER_ERROR`.
    """
    kind = type(error)
    retry_after = error.after_seconds if isinstance(error, RetryLater) else None
    return ErrorInfo(
        code=_code_of(error),
        type=f"{kind.__module__}.{kind.__qualname__}"
        if kind.__module__ != "builtins"
        else kind.__qualname__,
        message=(str(error) or kind.__qualname__)[:2000],
        is_permanent=isinstance(error, TaskError) and error.is_permanent,
        is_process_timeout=isinstance(error, ProcessTimeout),
        retry_after_seconds=retry_after,
        traceback=traceback[-65_536:],
    )


def _code_of(error: BaseException) -> str:
    if isinstance(error, TaskError):
        return error.code
    declared = getattr(error, "code", None)
    if isinstance(declared, str) and declared in PERMANENT_CODES | TEMPORARY_CODES:
        return declared
    if isinstance(error, (TimeoutError, ProcessTimeout)):
        return "TIMEOUT"
    if isinstance(error, ConnectionError) or type(error).__name__ == "gaierror":
        return "NETWORK_ERROR"
    return "HANDLER_ERROR"


class Jitter(StrEnum):
    """How a delay is spread: not at all, over its upper half, or over all of it."""

    NONE = "none"
    EQUAL = "equal"
    FULL = "full"


CustomDelay = Callable[[int, ErrorInfo], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a failed attempt is repeated. Build with `fixed`, `exponential`, `custom`, `smart` or
    `never`.

    Attributes:
        kind: `smart`, `fixed`, `exponential`, `custom` or `never`.
        delay_seconds: first delay (exponential) or every delay (fixed).
        factor: multiplier per further attempt, 1 to 10.
        max_delay_seconds: cap of a delay before jitter.
        jitter: spread of the delay.
        function: for `custom`: `(failed attempts so far, error) -> seconds`, `None` for "do not
            retry".
        never_on: codes that are not retried, beside the permanent ones.
    """

    kind: str = "smart"
    delay_seconds: float = 5.0
    factor: float = 2.0
    max_delay_seconds: float = 60.0
    jitter: Jitter = Jitter.NONE
    function: CustomDelay | None = field(default=None, compare=False)
    never_on: frozenset[str] = frozenset()

    @classmethod
    def smart(cls) -> Retry:
        """Choose by error code: see the module's docstring."""
        return cls(kind="smart")

    @classmethod
    def never(cls) -> Retry:
        """Do not repeat a failed attempt."""
        return cls(kind="never")

    @classmethod
    def fixed(cls, delay: float, *, jitter: str = "none") -> Retry:
        """Wait `delay` seconds before each further attempt."""
        return cls(
            kind="fixed", delay_seconds=delay, max_delay_seconds=delay, jitter=Jitter(jitter)
        )

    @classmethod
    def exponential(
        cls,
        delay: float = 1.0,
        *,
        factor: float = 2.0,
        max_delay: float = 60.0,
        jitter: str = "full",
    ) -> Retry:
        """Wait `delay`, then `factor` times as long each time, at most `max_delay` seconds."""
        return cls(
            kind="exponential",
            delay_seconds=delay,
            factor=factor,
            max_delay_seconds=max_delay,
            jitter=Jitter(jitter),
        )

    @classmethod
    def custom(cls, function: CustomDelay) -> Retry:
        """Ask `function(failed_attempts, error)` for the delay in seconds, `None` to give up."""
        return cls(kind="custom", function=function)

    def __post_init__(self) -> None:
        if self.kind not in {"smart", "fixed", "exponential", "custom", "never"}:
            raise HandlerDeclarationError(f"unknown retry policy {self.kind!r}")
        if not 0 <= self.delay_seconds <= MAX_DELAY_SECONDS:
            raise HandlerDeclarationError("a retry delay must be 0 to 2592000 seconds")
        if not 0 <= self.max_delay_seconds <= MAX_DELAY_SECONDS:
            raise HandlerDeclarationError("a retry max_delay must be 0 to 2592000 seconds")
        if not 1 <= self.factor <= 10:  # noqa: PLR2004 - documented bound
            raise HandlerDeclarationError("a retry factor must be 1 to 10")

    def as_json(self) -> dict[str, Any]:
        """Give the `retry` object of the API; a custom policy shows only its kind."""
        if self.kind in {"smart", "never", "custom"}:
            return {"policy": self.kind}
        shown: dict[str, Any] = {
            "policy": self.kind,
            "delay": self.delay_seconds,
            "jitter": self.jitter.value,
        }
        if self.kind == "exponential":
            shown |= {"factor": self.factor, "max_delay": self.max_delay_seconds}
        return shown

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Retry:
        """Read the `retry` object of a submission (already validated by its schema)."""
        match value.get("policy"):
            case "fixed":
                return cls.fixed(float(value.get("delay", 5.0)), jitter=value.get("jitter", "none"))
            case "exponential":
                return cls.exponential(
                    float(value.get("delay", 1.0)),
                    factor=float(value.get("factor", 2.0)),
                    max_delay=float(value.get("max_delay", 60.0)),
                    jitter=value.get("jitter", "full"),
                )
            case "never":
                return cls.never()
            case _:
                return cls.smart()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows a failed attempt: retry after a delay, or the end.

    Attributes:
        is_retry: whether another attempt follows.
        delay_seconds: until it may start; 0 where the task ends.
        final_state: `failed` or `timeout` where it ends, else None.
        is_retryable: whether the error was of a kind that retries can help (the API's
            `error.retryable`).
    """

    is_retry: bool
    is_retryable: bool
    delay_seconds: float = 0.0
    final_state: str | None = None


def decide_after_failure(
    policy: Retry,
    error: ErrorInfo,
    *,
    failed_attempts: int,
    attempts_left: int,
    rng: Callable[[], float] = random.random,
) -> Verdict:
    """Decide what follows a failed attempt.

    Args:
        policy: the task's retry policy.
        error: what went wrong.
        failed_attempts: attempts made since submit or redrive, this one included; at least 1.
        attempts_left: attempts that may still start.
        rng: uniform numbers in [0, 1) for jitter.
    """
    is_retryable = _is_retryable(policy, error)
    end = Verdict(
        is_retry=False,
        is_retryable=is_retryable,
        final_state="timeout" if error.is_process_timeout else "failed",
    )
    if not is_retryable or attempts_left <= 0:
        return end
    delay = error.retry_after_seconds
    if delay is None:
        delay = next_delay(policy, error, failed_attempts=failed_attempts, rng=rng)
    if delay is None:
        return end
    return Verdict(is_retry=True, is_retryable=True, delay_seconds=delay)


def _is_retryable(policy: Retry, error: ErrorInfo) -> bool:
    if error.is_permanent or policy.kind == "never":
        return False
    return error.code not in PERMANENT_CODES | policy.never_on


def next_delay(
    policy: Retry,
    error: ErrorInfo,
    *,
    failed_attempts: int,
    rng: Callable[[], float] = random.random,
) -> float | None:
    """Give the seconds until the next attempt, or None for "give up".

    Raises:
        ValueError: a custom policy gave what is no number. Whatever else it raises is passed on.
    """
    if policy.kind == "custom" and policy.function is not None:
        chosen = policy.function(failed_attempts, error)
        if chosen is None:
            return None
        if math.isnan(seconds := float(chosen)):
            raise ValueError("a retry policy gives seconds or None, not NaN")
        return min(max(seconds, 0.0), MAX_DELAY_SECONDS)
    if policy.kind == "smart":
        if error.code not in TEMPORARY_CODES:
            return 5.0
        policy = Retry.exponential(1.0, factor=2.0, max_delay=60.0, jitter="equal")
    exponent = min(failed_attempts - 1, _MAX_EXPONENT) if policy.kind == "exponential" else 0
    raw = min(policy.max_delay_seconds, policy.delay_seconds * policy.factor**exponent)
    return _spread(raw, policy.jitter, rng)


def _spread(delay: float, jitter: Jitter, rng: Callable[[], float]) -> float:
    if jitter is Jitter.FULL:
        return delay * rng()
    if jitter is Jitter.EQUAL:
        return delay / 2 + delay / 2 * rng()
    return delay
