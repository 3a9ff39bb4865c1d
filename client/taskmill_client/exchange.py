"""One request and its answer, with the repeats that are safe and the errors that have a meaning.

Source: RFC 9110 9.2.2 (what may be repeated), 10.2.3 (`Retry-After`); RFC 9457 (problems).
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

from taskmill_client.configuration import API_PATH, TOKEN_VARIABLE, URL_VARIABLE, Configuration
from taskmill_client.errors import (
    ApiError,
    AuthenticationFailed,
    ServerUnavailable,
    UnexpectedAnswer,
    error_class,
)
from taskmill_client.wire import SAFE_METHODS, Answer, Call, Flow, Lost, Pause, Send

FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 8.0
LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
AWAY: Final = frozenset({502, 503, 504})
TOO_MANY: Final = 429
UNHEALTHY: Final = 503
NOT_MODIFIED: Final = 304
NO_SUCH_ADDRESS: Final = "not_found"
IN_FLIGHT: Final = "idempotency_in_flight"
_SHOWN_CHARACTERS: Final = 200


class Random(Protocol):
    """Gives a number from 0 to below 1."""

    def __call__(self) -> float:
        """Give it."""


class Exchange:
    """Asks the server; one for each client.

    Args:
        random: for the jitter between tries.
    """

    def __init__(self, configuration: Configuration, random: Random = random.random) -> None:
        self.configuration = configuration
        self._random = random

    def ask(self, call: Call) -> Flow[Answer]:
        """Send a call until it is answered, or it may not be repeated (any more).

        Returns:
            The answer: 2xx or 304.

        Raises:
            ApiError: the server says no, or does not answer.
        """
        tries = 0
        while True:
            error = yield from self._tried(call)
            if isinstance(error, Answer):
                return error
            pause = self.pause_before_next(error, tries)
            if tries >= self.configuration.retries or pause is None:
                raise error
            if not may_be_repeated(call, error):
                raise error
            tries += 1
            yield Pause(pause)

    def _tried(self, call: Call) -> Flow[Answer | ApiError]:
        try:
            answer: Answer = yield Send(call)
        except Lost as lost:
            return self.unreachable(lost)
        return self.checked(call, answer)

    def checked(self, call: Call, answer: Answer) -> Answer | ApiError:
        """Give the answer where it says yes, else the error that it is."""
        is_good = 200 <= answer.status < 300 or answer.status == NOT_MODIFIED  # noqa: PLR2004
        return answer if is_good else self._refusal(call, answer)

    def pause_before_next(self, error: ApiError, tries: int) -> float | None:
        """Give how long to wait before the next try; None where that is too long to wait."""
        longest = min(FIRST_PAUSE_SECONDS * 2.0**tries, LONGEST_PAUSE_SECONDS)
        pause = longest * (0.5 + 0.5 * self._random())
        if error.retry_after is None:
            return pause
        if error.retry_after > LONGEST_RETRY_AFTER_SECONDS:
            return None
        return error.retry_after + pause * 0.5

    def json(self, call: Call) -> Flow[Any]:
        """Ask, and give the JSON value of the answer; None where it has no body."""
        answer = yield from self.ask(call)
        return self.decoded(call, answer)

    def health(self, call: Call) -> Flow[Any]:
        """Ask how the platform is: 503 says in its body which part is down."""
        answer: Answer
        try:
            answer = yield Send(call)
        except Lost as lost:
            raise self.unreachable(lost) from lost
        if answer.status == UNHEALTHY and _problem_of(answer) is None:
            return self.decoded(call, answer)
        checked = self.checked(call, answer)
        if isinstance(checked, ApiError):
            raise checked
        return self.decoded(call, checked)

    def decoded(self, call: Call, answer: Answer) -> Any:
        """Give the JSON value of an answer.

        Raises:
            UnexpectedAnswer: it is not JSON.
        """
        if not answer.body:
            return None
        try:
            return json.loads(answer.body)
        except ValueError:
            raise self._not_taskmill(call, answer) from None

    def unreachable(self, lost: Lost) -> ServerUnavailable:
        """Give the error of an answer that did not come."""
        error = ServerUnavailable(
            f"no answer from {self.configuration.url}: {lost.reason}. Does the server run, and is"
            f" {URL_VARIABLE} its address?",
            status=0,
            code="unreachable",
            title="The server does not answer",
        )
        error.__cause__ = lost
        return error

    def _refusal(self, call: Call, answer: Answer) -> ApiError:
        problem = _problem_of(answer)
        if problem is None:
            return self._foreign(call, answer)
        kind = error_class(answer.status)
        detail = str(problem.get("detail") or problem.get("title") or "")
        if kind is AuthenticationFailed:
            detail = f"{detail.rstrip('.')}. {self._advice()}"
        if problem.get("code") == NO_SUCH_ADDRESS:
            where = f"{self.configuration.url}{API_PATH}{call.path}"
            detail = f"{detail.rstrip('.')}: {where}. Is {URL_VARIABLE} the address of the site?"
        return kind(
            detail,
            status=answer.status,
            code=str(problem.get("code", "")),
            title=str(problem.get("title", "")),
            errors=[one for one in problem.get("errors") or () if isinstance(one, dict)],
            request_id=str(problem.get("request_id") or answer.headers.get("x-request-id", "")),
            retry_after=retry_after_of(answer),
            problem=problem,
        )

    def _advice(self) -> str:
        if not self.configuration.token:
            return f"No API key was given: give Client(token=...) or set {TOKEN_VARIABLE}"
        return f"Is the API key ({TOKEN_VARIABLE}) of this server, {self.configuration.url}?"

    def _foreign(self, call: Call, answer: Answer) -> ApiError:
        """Give the error of an answer that Taskmill did not write: a proxy's, another site's."""
        kind = error_class(answer.status)
        is_plain = kind is ApiError or answer.status in {404, 410}
        if is_plain:
            return self._not_taskmill(call, answer)
        advice = f" {self._advice()}" if kind is AuthenticationFailed else ""
        return kind(
            f"{self.configuration.url} answered {answer.status} to {call.method} {call.path},"
            f" and not as Taskmill does: {_shown(answer)}.{advice}",
            status=answer.status,
            request_id=answer.headers.get("x-request-id", ""),
            retry_after=retry_after_of(answer),
        )

    def _not_taskmill(self, call: Call, answer: Answer) -> UnexpectedAnswer:
        place = answer.headers.get("location")
        redirect = f"; it points to {place}" if place and 300 <= answer.status < 400 else ""  # noqa: PLR2004
        return UnexpectedAnswer(
            f"what answers at {self.configuration.url} does not seem to be Taskmill:"
            f" {answer.status} to {call.method} {API_PATH}{call.path}{redirect}: {_shown(answer)}."
            f" Set {URL_VARIABLE} to the address of the site, such as http://127.0.0.1:8000",
            status=answer.status,
            code="unexpected_answer",
            title="Not an answer of Taskmill",
        )


def may_be_repeated(call: Call, error: ApiError) -> bool:
    """Say whether a call that came to this error may be sent again.

    What was refused with 429, or was never sent, has done nothing.
    """
    is_safe = call.is_repeatable or call.method in SAFE_METHODS or _has_key(call)
    if error.status == TOO_MANY:
        return True
    if isinstance(error.__cause__, Lost):
        return is_safe or not error.__cause__.was_sent
    return is_safe and (error.status in AWAY or error.code == IN_FLIGHT)


def _has_key(call: Call) -> bool:
    return any(name.lower() == "idempotency-key" for name in call.headers)


def retry_after_of(answer: Answer) -> float | None:
    """Give the seconds of `Retry-After`, which is a number or a date; None without it."""
    text = answer.headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
        return max(0.0, (at - datetime.now(tz=UTC)).total_seconds())  # noqa: TID251 - HTTP's date
    except (TypeError, ValueError):
        return None


def _problem_of(answer: Answer) -> dict[str, Any] | None:
    if "json" not in answer.headers.get("content-type", ""):
        return None
    try:
        found = json.loads(answer.body)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "code" in found else None


def _shown(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "no content type")
    text = " ".join(answer.body[: _SHOWN_CHARACTERS * 4].decode("utf-8", "replace").split())
    return f"{kind}, {text[:_SHOWN_CHARACTERS]!r}"
