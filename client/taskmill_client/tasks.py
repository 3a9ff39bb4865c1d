"""What may be asked of tasks."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from taskmill_client.binding import Bound, iteration, operation, task_iteration, task_operation
from taskmill_client.bulk import BulkResult, submit_many
from taskmill_client.calls import UNSET, Left, get_call, keyed_call, known, post_call, seconds_of
from taskmill_client.events import Event
from taskmill_client.fields import LogLine, TaskFields, log_line
from taskmill_client.following import follow
from taskmill_client.pages import emit_lines, emit_pages
from taskmill_client.records import Delivery, made
from taskmill_client.task_calls import (
    again_call,
    cancel_call,
    one_value,
    task_path,
    update_call,
)
from taskmill_client.waiting import OnProgress, wait_for
from taskmill_client.wire import Flow, JsonObject, JsonObjects


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
        body = known(
            type=type,
            payload=payload,
            queue=queue,
            priority=priority,
            tags=None if tags is None else list(tags),
            metadata=metadata,
            delay=seconds_of(delay),
            run_at=run_at,
            **fields,
        )
        call = keyed_call("/tasks", body, idempotency_key)
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
        call = get_call(task_path(task_id))
        return self._runner.task((yield from self._exchange.json(call)))

    @task_iteration
    def list(
        self,
        /,
        *,
        status: str | Sequence[str] | None = None,
        type: str | None = None,  # noqa: A002 - the contract's word
        queue: str | None = None,
        tag: str | Sequence[str] | None = None,
        limit: int | None = None,
        **filters: Any,
    ) -> Flow[None]:
        """Give tasks, the newest first, page by page as they are asked for.

        Args:
            status: one, or any of several.
            tag: one, or all of several.
            limit: give so many at most; None for all.
            filters: the others of `GET /tasks`: state, waiting, concurrency_key, schedule, parent,
                created_after, created_before, q, sort.
        """
        named = one_value({"status": status, "type": type, "queue": queue, "tag": tag, **filters})
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
    def update(
        self,
        /,
        task_id: str | uuid.UUID,
        *,
        priority: int | Left = UNSET,
        queue: str | Left = UNSET,
        run_at: datetime | str | Left | None = UNSET,
        tags: Sequence[str] | Left | None = UNSET,
        metadata: Mapping[str, Any] | Left | None = UNSET,
        version: int | None = None,
    ) -> Flow[TaskFields]:
        """Change a task that waits; what is left out stays.

        Args:
            run_at: an aware time before which it does not start; None for at once.
            tags: all that it has from now on; None for none.
            metadata: merged into what it has: a None in it removes a key, None itself removes all.
            version: change it only while it has this version.

        Raises:
            Conflict: it does not wait any more (409), or has another version (412).
            ValidationRefused: a value is wrong.
        """
        call = update_call(
            task_id,
            version,
            priority=priority,
            queue=queue,
            run_at=run_at,
            tags=tags,
            metadata=metadata,
        )
        return self._runner.task((yield from self._exchange.json(call)))

    @task_operation
    def retry(
        self,
        task_id: str | uuid.UUID,
        *,
        payload: Any = UNSET,
        idempotency_key: str | None = None,
    ) -> Flow[TaskFields]:
        """Run a task again that did not succeed: the same task, attempts granted anew.

        Args:
            payload: another one than it has.

        Raises:
            Conflict: it has not ended, or it succeeded.
        """
        call = again_call(task_id, "retry", payload, idempotency_key)
        return self._runner.task((yield from self._exchange.json(call)))

    @task_operation
    def rerun(
        self,
        /,
        task_id: str | uuid.UUID,
        *,
        payload: Any = UNSET,
        idempotency_key: str | None = None,
    ) -> Flow[TaskFields]:
        """Submit a new task like this one, whatever became of it; its `retry_of` is the old one.

        Args:
            payload: another one than the old one has.

        Returns:
            The new task.
        """
        call = again_call(task_id, "rerun", payload, idempotency_key)
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
        call = get_call(task_path(task_id, "/attempts"))
        found = yield from self._exchange.json(call)
        return list(found["results"])

    @operation
    def add_webhook(self, /, task_id: str | uuid.UUID, url: str) -> Flow[JsonObject]:
        """Send the final event of a task to an address too, at once where it has finished.

        It is signed with the secret that `webhooks.rotate_task_secret` shows.
        """
        call = post_call(task_path(task_id, "/webhooks"), {"url": url}, is_repeatable=True)
        found: JsonObject = yield from self._exchange.json(call)
        return found

    @iteration(Delivery)
    def deliveries(self, /, task_id: str | uuid.UUID, *, limit: int | None = None) -> Flow[None]:
        """Give what was sent about a task, to endpoints and addresses, the newest first."""
        path, make = task_path(task_id, "/deliveries"), partial(made, Delivery)
        yield from emit_pages(self._exchange, path, {}, limit=limit, make=make)
