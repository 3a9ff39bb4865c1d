"""Watches tasks until they are done: a thread reads each one's events, the caller shows them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from taskmill_client import Client, Event, Task, TaskmillError
from taskmill_client.cli.faults import ExitCode, Refusal

AT_ONCE: Final = 32
"""Tasks whose events are read at the same time; the others have their turn as these end."""


@dataclass(slots=True)
class Watched:
    """What is known of a task that is watched."""

    id: str
    type: str = ""
    state: str = ""
    attempt: int = 0
    progress: float = 0.0
    message: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    waiting: str = ""
    task: Task | None = None

    def take(self, event: Event) -> None:
        """Take over what an event says."""
        data = event.data
        self.state = data.get("state") or self.state
        self.attempt = data.get("attempt") or self.attempt
        if event.type == "task.progress":
            self.progress = float(data.get("progress") or 0.0)
            self.message = data.get("message") or self.message
            self.detail = data.get("detail") or self.detail
        if event.type == "task.started":
            self.progress, self.message, self.detail, self.waiting = 0.0, "", {}, ""

    def begin(self, task: Task) -> None:
        """Take over how it is when it is first looked at."""
        self.type, self.waiting = task.type, waiting_for(task.raw)

    def end(self, task: Task) -> None:
        """Take over how it ended."""
        self.task = task
        self.type, self.state, self.attempt = task.type, task.state, task.attempt
        if task.succeeded:
            self.progress = 100.0
        self.message = reason_of(task.raw) or task.progress.message


class Display(Protocol):
    """Shows how tasks go."""

    def __enter__(self) -> Display: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, watched: Watched, event: Event | None) -> None:
        """Show a change; `event` is None where the task is done."""


class NoDisplay:
    """Shows nothing."""

    def __enter__(self) -> NoDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, watched: Watched, event: Event | None) -> None:
        """Show nothing."""


def waiting_for(raw: dict[str, Any]) -> str:
    """Say why a task does not run yet, in a few words."""
    reasons = [str(one.get("reason", "")).replace("_", " ") for one in raw.get("waiting") or []]
    return ", ".join(one for one in reasons if one)


def reason_of(raw: dict[str, Any]) -> str:
    """Say why a task did not succeed, in a line."""
    error = raw.get("error") or {}
    return ": ".join(str(error[name]) for name in ("code", "message") if error.get(name))


def follow(
    client: Client,
    ids: Sequence[str],
    display: Display,
    *,
    timeout_seconds: float | None = None,
    is_any: bool = False,
) -> Iterator[Watched]:
    """Watch tasks, and give each as it ends; with `is_any` the first one alone.

    Raises:
        Refusal: they are not done in time (they go on), or too many for `is_any`.
        TaskmillError: the platform refuses one of them.
    """
    wanted = list(dict.fromkeys(ids))
    if is_any and len(wanted) > AT_ONCE:
        raise Refusal(f"--any watches {AT_ONCE} tasks at most")
    watched = {one: Watched(one) for one in wanted}
    news = _start(client, wanted)
    end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    open_ones = set(wanted)
    with display:
        while open_ones:
            task_id, found = _next(news, end, open_ones)
            if isinstance(found, TaskmillError):
                raise found
            one = watched[task_id]
            if isinstance(found, Event):
                one.take(found)
                display.show(one, found)
                continue
            if not isinstance(found, Ended):
                one.begin(found)
                continue
            one.end(found.task)
            open_ones.discard(task_id)
            display.show(one, None)
            yield one
            if is_any:
                return


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that is done."""

    task: Task


News = tuple[str, "Event | Task | Ended | TaskmillError"]


def _start(client: Client, ids: list[str]) -> SimpleQueue[News]:
    news: SimpleQueue[News] = SimpleQueue()
    line = deque(ids)
    for _ in range(min(AT_ONCE, len(ids))):
        threading.Thread(target=_watch, args=(client, line, news), daemon=True).start()
    return news


def _watch(client: Client, line: deque[str], news: SimpleQueue[News]) -> None:
    while True:
        try:
            task_id = line.popleft()
        except IndexError:
            return
        try:
            news.put((task_id, client.tasks.get(task_id)))
            for event in client.tasks.events(task_id):
                news.put((task_id, event))
            news.put((task_id, Ended(client.tasks.get(task_id))))
        except TaskmillError as error:
            news.put((task_id, error))


def _next(news: SimpleQueue[News], end: float | None, open_ones: set[str]) -> News:
    left = None if end is None else max(0.0, end - time.monotonic())
    try:
        return news.get(timeout=left)
    except Empty:
        count = len(open_ones)
        names = ", ".join(sorted(open_ones)[:3]) + (" ..." if count > 3 else "")  # noqa: PLR2004
        raise Refusal(
            f"not done in time: {names}",
            hint="the work goes on; `taskmill wait` waits again",
            code=ExitCode.WAIT_TIMEOUT,
        ) from None
