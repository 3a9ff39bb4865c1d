"""Waiting for a task by long poll, over restarts of the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taskmill_client.errors import (
    ApiError,
    ServerUnavailable,
    TaskFailed,
    TooManyRequests,
    UnexpectedAnswer,
    WaitTimeout,
)
from taskmill_client.exchange import NOT_MODIFIED, Exchange
from taskmill_client.wire import Answer, Call, Flow, Pause

if TYPE_CHECKING:
    from taskmill_client.binding import Runner
    from taskmill_client.fields import TaskFields

POLL_SECONDS: Final = 30
OUTAGE_SECONDS: Final = 300.0
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
OnProgress: TypeAlias = Callable[[Any], object]


class Outage:
    """How long the server has been away, and whether that is too long."""

    def __init__(self, most_seconds: float = OUTAGE_SECONDS) -> None:
        self._most_seconds = most_seconds
        self._since: float | None = None
        self._tries = 0

    def is_over(self) -> None:
        """Forget it: the server answered."""
        self._since, self._tries = None, 0

    def next_pause(self, error: ApiError) -> float:
        """Give how long to wait before the next question.

        Raises:
            ApiError: it has been away for too long, or the error is not that it is away.
        """
        if not is_passing(error):
            raise error
        now = monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > self._most_seconds:
            raise error
        pause = min(FIRST_PAUSE_SECONDS * 2.0**self._tries, LONGEST_PAUSE_SECONDS)
        self._tries += 1
        return max(pause, min(error.retry_after or 0.0, self._most_seconds))


def is_passing(error: ApiError) -> bool:
    """Say whether an error is likely to pass by itself."""
    if isinstance(error, UnexpectedAnswer):
        return False
    return isinstance(error, ServerUnavailable | TooManyRequests)


class Polls:
    """Pauses between polls that come back sooner than asked: something ignores `Prefer`."""

    def __init__(self) -> None:
        self._pause = 0.0

    def pause_after(self, *, asked_seconds: float, took_seconds: float, is_news: bool) -> float:
        """Give how long to rest before the next poll."""
        if is_news or took_seconds >= asked_seconds * 0.5:
            self._pause = 0.0
        else:
            self._pause = min(max(self._pause * 1.5, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        return self._pause


def poll_call(path: str, seconds: float, version: int | None) -> Call:
    """Ask for a task when it is done, or has another version."""
    headers = {"Prefer": f"wait={max(int(seconds), 1)}"}
    if version is not None:
        headers["If-None-Match"] = f'"{version}"'
    return Call(method="GET", path=path, headers=headers, patience_seconds=seconds)


def wait_for(
    runner: Runner,
    path: str,
    *,
    timeout_seconds: float | None,
    on_progress: OnProgress | None,
    raises: bool,
) -> Flow[TaskFields]:
    """Give the task when it is done; see `TaskOperations.wait`."""
    waiting = Waiting(runner, path, timeout_seconds, on_progress)
    task = yield from waiting.until_done()
    if raises and not task.succeeded:
        raise TaskFailed(task)
    return task


class Waiting:
    """One wait."""

    def __init__(
        self,
        runner: Runner,
        path: str,
        timeout_seconds: float | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._runner = runner
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._until = None if timeout_seconds is None else monotonic() + timeout_seconds
        self._on_progress = on_progress
        self._task: TaskFields | None = None
        self._outage = Outage()
        self._polls = Polls()

    def until_done(self) -> Flow[TaskFields]:
        """Poll until the task is done.

        Raises:
            WaitTimeout: the time is over.
        """
        while True:
            asked = min(POLL_SECONDS, max(self._left(), 0.0))
            began = monotonic()
            try:
                is_news = yield from self._poll(asked)
            except ApiError as error:
                yield from self._rest(self._outage.next_pause(error), error)
                continue
            self._outage.is_over()
            if self._task is not None and self._task.done:
                return self._task
            pause = self._polls.pause_after(
                asked_seconds=asked, took_seconds=monotonic() - began, is_news=is_news
            )
            yield from self._rest(pause)

    def _left(self) -> float:
        return POLL_SECONDS if self._until is None else self._until - monotonic()

    def _rest(self, seconds: float, error: ApiError | None = None) -> Flow[None]:
        left = self._left()
        if left <= 0:
            raise self._timeout() from error
        if seconds > 0:
            yield Pause(min(seconds, left) if self._until is not None else seconds)

    def _timeout(self) -> WaitTimeout:
        task = self._task
        state = "the server did not answer" if task is None else f"it is {task.status}"
        name = self._path.rpartition("/")[2]
        return WaitTimeout(
            f"task {name} was not done within {self._timeout_seconds:g} s ({state}); it goes on",
            task,
        )

    def _poll(self, seconds: float) -> Flow[bool]:
        exchange: Exchange = self._runner.exchange
        version = None
        if self._on_progress is not None and self._task is not None:
            version = self._task.version
        if seconds < 1 or (self._on_progress is not None and self._task is None):
            call = Call(method="GET", path=self._path)
        else:
            call = poll_call(self._path, seconds, version)
        answer: Answer = yield from exchange.ask(call)
        if answer.status == NOT_MODIFIED:
            return False
        return self._see(self._runner.task(exchange.decoded(call, answer)))

    def _see(self, task: TaskFields) -> bool:
        is_news = self._task is None or task.version != self._task.version
        self._task = task
        if is_news and self._on_progress is not None:
            self._on_progress(task)
        return is_news


def print_progress(task: TaskFields) -> None:
    """Print how far a task is to standard error."""
    progress = task.progress
    words = [task.type, task.status, f"{progress.percent:.0f} %", progress.message]
    sys.stderr.write("  ".join(word for word in words if word) + "\n")
