"""What a task can do itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from taskmill_client.binding import Bound, iteration, task_operation
from taskmill_client.calls import UNSET, Left, get_call
from taskmill_client.events import Event
from taskmill_client.fields import LogLine, TaskFields, log_line
from taskmill_client.following import follow
from taskmill_client.pages import emit_lines
from taskmill_client.task_calls import again_call, cancel_call, task_path, update_call
from taskmill_client.waiting import OnProgress, print_progress, wait_for
from taskmill_client.wire import Call, Flow


class TaskMethods(TaskFields, Bound):
    """What a task can do itself; each but `rerun` brings its fields up to date."""

    def _take(self, call: Call) -> Flow[TaskFields]:
        self.raw = yield from self._exchange.json(call)
        return self

    @task_operation
    def refresh(self) -> Flow[TaskFields]:
        """Ask how it is now."""
        return (yield from self._take(get_call(task_path(self.id))))

    @task_operation
    def wait(
        self,
        /,
        timeout: float | None = 300.0,
        progress: bool | OnProgress = False,
        *,
        raise_on_failure: bool = False,
    ) -> Flow[TaskFields]:
        """Wait until it is done; see `client.tasks.wait`.

        Args:
            timeout: seconds; None for as long as it takes.
            progress: True to print a line to standard error whenever it changed, or what to call.
        """
        on_progress: Callable[[Any], object] | None
        on_progress = print_progress if progress is True else (progress or None)
        found = yield from wait_for(
            self._runner,
            task_path(self.id),
            timeout_seconds=timeout,
            on_progress=on_progress,
            raises=raise_on_failure,
        )
        self.raw = found.raw
        return self

    @task_operation
    def cancel(self, /, reason: str = "", force: bool = False) -> Flow[TaskFields]:
        """Cancel it; see `client.tasks.cancel`."""
        return (yield from self._take(cancel_call(self.id, reason, force=force)))

    @task_operation
    def update(
        self,
        /,
        *,
        priority: int | Left = UNSET,
        queue: str | Left = UNSET,
        run_at: datetime | str | Left | None = UNSET,
        tags: Sequence[str] | Left | None = UNSET,
        metadata: Mapping[str, Any] | Left | None = UNSET,
        version: int | None = None,
    ) -> Flow[TaskFields]:
        """Change it while it waits; see `client.tasks.update`."""
        call = update_call(
            self.id,
            version,
            priority=priority,
            queue=queue,
            run_at=run_at,
            tags=tags,
            metadata=metadata,
        )
        return (yield from self._take(call))

    @task_operation
    def retry(
        self, /, *, payload: Any = UNSET, idempotency_key: str | None = None
    ) -> Flow[TaskFields]:
        """Run it again; see `client.tasks.retry`."""
        call = again_call(self.id, "retry", payload, idempotency_key)
        return (yield from self._take(call))

    @task_operation
    def rerun(
        self, /, *, payload: Any = UNSET, idempotency_key: str | None = None
    ) -> Flow[TaskFields]:
        """Submit a new task like it, and give that; see `client.tasks.rerun`."""
        call = again_call(self.id, "rerun", payload, idempotency_key)
        return self._runner.task((yield from self._exchange.json(call)))

    @iteration(Event)
    def events(self, /, after: int | None = None) -> Flow[None]:
        """Give its events as they happen; see `client.tasks.events`."""
        yield from follow(self._exchange, task_path(self.id), after=after or 0)

    @iteration(LogLine)
    def logs(self, /, after: str | None = None) -> Flow[None]:
        """Give its log lines that there are now."""
        path = task_path(self.id, "/logs")
        yield from emit_lines(self._exchange, path, {}, after=after, make=log_line)
