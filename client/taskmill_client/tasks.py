"""What may be asked of tasks."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from taskmill_client.binding import Bound, iteration, operation, task_iteration, task_operation
from taskmill_client.bulk import BulkResult, submit_many
from taskmill_client.events import Event
from taskmill_client.fields import LogLine, TaskFields, log_line
from taskmill_client.following import follow
from taskmill_client.pages import emit_lines, emit_pages
from taskmill_client.waiting import OnProgress, print_progress, wait_for
from taskmill_client.wire import Call, Flow, JsonObject, JsonObjects


def task_path(task_id: str | uuid.UUID, suffix: str = "") -> str:
    """Give the path of a task.

    Raises:
        ValueError: it is no id, so that nothing else is asked for by mistake.
    """
    return f"/tasks/{uuid.UUID(str(task_id))}{suffix}"


def seconds_of(value: timedelta | float | None) -> float | None:
    """Give seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def cancel_call(task_id: str | uuid.UUID, reason: str, *, force: bool) -> Call:
    """Ask to cancel; repeating it changes nothing."""
    body: JsonObject = {"reason": reason} if reason else {}
    if force:
        body["force"] = True
    return Call(method="POST", path=task_path(task_id, "/cancel"), body=body, is_repeatable=True)


def retry_call(task_id: str | uuid.UUID, key: str | None) -> Call:
    """Ask to run it again."""
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return Call(method="POST", path=task_path(task_id, "/retry"), body={}, headers=headers)


class TaskOperations(Bound):
    """`client.tasks`."""

    @task_operation
    def submit(
        self,
        /,
        type: str,  # noqa: A002 - the contract's word
        payload: Any = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        delay: timedelta | float | None = None,
        run_at: datetime | str | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Flow[TaskFields]:
        """Submit a task.

        Args:
            type: which handler runs it.
            payload: JSON values for it; None for `{}`.
            queue, priority, tags, metadata: None for the defaults of the type.
            delay: seconds, or a timedelta, before it may start; not together with `run_at`.
            run_at: an aware time before which it does not start.
            idempotency_key: two submissions with the same one make one task, for 24 hours. One is
                made for each call, so that this client's own repeats are safe.
            fields: the others of `POST /tasks`: max_retry, queue_timeout, process_timeout,
                concurrency_key, max_concurrency, concurrency_strategy, fair_key, unique, debounce,
                webhook_url, webhook_urls, retry.

        Raises:
            ValidationRefused: the payload does not fit the type, or a field is wrong.
            NotFound: there is no such type.
            TooManyRequests: a limit or a quota is reached.
        """
        named: JsonObject = {
            "type": type,
            "payload": payload,
            "queue": queue,
            "priority": priority,
            "tags": None if tags is None else list(tags),
            "metadata": metadata,
            "delay": seconds_of(delay),
            "run_at": run_at,
            **fields,
        }
        call = Call(
            method="POST",
            path="/tasks",
            body={name: value for name, value in named.items() if value is not None},
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
        )
        return self._runner.task((yield from self._exchange.json(call)))

    @operation
    def submit_many(
        self,
        /,
        items: Iterable[Mapping[str, Any]],
        *,
        atomic: bool = False,
        idempotency_key: str | None = None,
    ) -> Flow[BulkResult]:
        """Submit many tasks, in requests of 1,000.

        Args:
            items: the fields of `POST /tasks`, `{"type": ..., "payload": ...}` at least.
            atomic: all or none, in one request: 10,000 items at most.
            idempotency_key: the same key and items again submit nothing twice, for 24 hours.

        Returns:
            What became of each item, in order; look at `rejected`.
        """
        return (
            yield from submit_many(
                self._exchange, items, is_atomic=atomic, idempotency_key=idempotency_key
            )
        )

    @task_operation
    def get(self, /, task_id: str | uuid.UUID) -> Flow[TaskFields]:
        """Give a task.

        Raises:
            NotFound: there is none with this id (any more).
        """
        call = Call(method="GET", path=task_path(task_id))
        return self._runner.task((yield from self._exchange.json(call)))

    @task_iteration
    def list(
        self,
        /,
        *,
        status: str | Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        **filters: Any,
    ) -> Flow[None]:
        """Give tasks, the newest first, page by page as they are asked for.

        Args:
            limit: give so many at most; None for all.
            filters: the others of `GET /tasks`: state, waiting, concurrency_key, schedule, parent,
                created_after, created_before, q, sort.
        """
        named = {"status": status, "type": type, "queue": queue, "tag": tag, **filters}
        yield from emit_pages(self._exchange, "/tasks", named, limit=limit, make=self._runner.task)

    @task_operation
    def cancel(
        self,
        /,
        task_id: str | uuid.UUID,
        reason: str = "",
        force: bool = False,
    ) -> Flow[TaskFields]:
        """Cancel a task: one that waits at once, one that runs by asking its worker.

        Args:
            force: kill the process that runs it, without time to clean up.

        Raises:
            Conflict: it has finished.
        """
        call = cancel_call(task_id, reason, force=force)
        return self._runner.task((yield from self._exchange.json(call)))

    @task_operation
    def retry(
        self, task_id: str | uuid.UUID, *, idempotency_key: str | None = None
    ) -> Flow[TaskFields]:
        """Run a task again that did not succeed: the same task, attempts granted anew.

        Raises:
            Conflict: it has not ended, or it succeeded.
        """
        call = retry_call(task_id, idempotency_key)
        return self._runner.task((yield from self._exchange.json(call)))

    @task_operation
    def wait(
        self,
        /,
        task_id: str | uuid.UUID,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        *,
        raise_on_failure: bool = False,
    ) -> Flow[TaskFields]:
        """Wait until a task is done, over restarts of the server.

        Args:
            timeout: seconds; None for as long as it takes.
            on_progress: called with the task whenever it changed, the last time when it is done.
            raise_on_failure: raise `TaskFailed` where it ends without success.

        Raises:
            WaitTimeout: the time is over; the task goes on.
            ServerUnavailable: the server has not answered for minutes.
        """
        return (
            yield from wait_for(
                self._runner,
                task_path(task_id),
                timeout_seconds=timeout,
                on_progress=on_progress,
                raises=raise_on_failure,
            )
        )

    @iteration(Event)
    def events(self, /, task_id: str | uuid.UUID, after: int | None = None) -> Flow[None]:
        """Give the events of a task as they happen, from the first to the final one.

        Each comes once and in order, over cut connections and restarts of the server. Where a
        proxy holds streams back they are asked for instead.

        Args:
            after: the `sequence` of the last one that is known; None for all.
        """
        yield from follow(self._exchange, task_path(task_id), after=after or 0)

    @iteration(LogLine)
    def logs(
        self,
        /,
        task_id: str | uuid.UUID,
        after: str | None = None,
        *,
        level: str | None = None,
        attempt: int | None = None,
    ) -> Flow[None]:
        """Give the log lines of a task that there are now, oldest first.

        Args:
            after: the `id` of the last one that is known.
            level: the least level wanted: debug, info, warning or error.
        """
        query = {"level": level, "attempt": attempt}
        path = task_path(task_id, "/logs")
        yield from emit_lines(self._exchange, path, query, after=after, make=log_line)

    @operation
    def attempts(self, /, task_id: str | uuid.UUID) -> Flow[JsonObjects]:
        """Give the runs of a task that ended."""
        call = Call(method="GET", path=task_path(task_id, "/attempts"))
        found = yield from self._exchange.json(call)
        return list(found["results"])


class TaskMethods(TaskFields, Bound):
    """What a task can do itself; each brings its fields up to date."""

    def _take(self, call: Call) -> Flow[TaskFields]:
        self.raw = yield from self._exchange.json(call)
        return self

    @task_operation
    def refresh(self) -> Flow[TaskFields]:
        """Ask how it is now."""
        return (yield from self._take(Call(method="GET", path=task_path(self.id))))

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
    def retry(self, /, *, idempotency_key: str | None = None) -> Flow[TaskFields]:
        """Run it again; see `client.tasks.retry`."""
        return (yield from self._take(retry_call(self.id, idempotency_key)))

    @iteration(Event)
    def events(self, /, after: int | None = None) -> Flow[None]:
        """Give its events as they happen; see `client.tasks.events`."""
        yield from follow(self._exchange, task_path(self.id), after=after or 0)

    @iteration(LogLine)
    def logs(self, /, after: str | None = None) -> Flow[None]:
        """Give its log lines that there are now."""
        path = task_path(self.id, "/logs")
        yield from emit_lines(self._exchange, path, {}, after=after, make=log_line)
