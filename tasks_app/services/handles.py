"""What Python code holds of a task it submitted: its id, and questions about it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from django.db import connection
from pydantic import BaseModel

from tasks_app.clock import monotonic
from tasks_app.context import TaskContext, current_task
from tasks_app.errors import NotFinished, TaskNotFound
from tasks_app.policies import Retry
from tasks_app.registry import get_handler
from tasks_app.selectors import DEFAULT_TENANT, find_task, task_object, tenant_id_of
from tasks_app.services.caller import Caller
from tasks_app.services.defaults import Origin
from tasks_app.services.submission import read_submission
from tasks_app.services.submit import submit_task
from tasks_app.states import FINISHED, State, Status, status_of

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5


class TaskHandle:
    """A submitted task.

    Attributes:
        id: the task's UUID.
        tenant: slug of its tenant.
        is_existing: whether a live task with the same unique key was found instead.
    """

    def __init__(self, task_id: uuid.UUID, *, tenant: str, is_existing: bool = False) -> None:
        self.id = task_id
        self.tenant = tenant
        self.is_existing = is_existing
        self._row: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}>"

    def refresh(self) -> TaskHandle:
        """Read the task again and give this handle.

        Raises:
            TaskNotFound: it was purged, or the submitting transaction was rolled back.
        """
        self._row = find_task(tenant_id=tenant_id_of(self.tenant), task_id=self.id)
        return self

    @property
    def state(self) -> State:
        """The stored state when last read."""
        return State(self._known["state"])

    @property
    def status(self) -> Status:
        """The public status when last read."""
        return status_of(self._known["state"])

    @property
    def is_done(self) -> bool:
        """Whether the task was finished when last read."""
        return self._known["state"] in FINISHED

    @property
    def result(self) -> Any:
        """The JSON values of its result.

        Raises:
            NotFinished: it had not succeeded when last read.
        """
        if self.state is not State.SUCCESS:
            raise NotFinished(f"the task is {self.state.value}", state=self.state.value)
        return self._known["result"]

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The `{code, type, message, retryable, attempt}` of its last failure, or None."""
        found: Mapping[str, Any] | None = self._known["error"]
        return found

    def as_object(self) -> dict[str, Any]:
        """Give the task object of the API as of the last read."""
        return task_object(self._known)

    def wait(self, timeout: float | None = None) -> TaskHandle:
        """Wait until the task is finished and give this handle.

        Args:
            timeout: seconds, None for as long as it takes.

        Raises:
            TimeoutError: it is not finished yet.
            TaskNotFound: it was purged, or its transaction was rolled back.
            RuntimeError: the submitting transaction is still open, so nobody can run the task.
        """
        if connection.in_atomic_block:
            raise RuntimeError("leave transaction.atomic() first: no worker sees the task before")
        end = None if timeout is None else monotonic() + timeout
        pause = _FIRST_PAUSE
        while not self.refresh().is_done:
            if end is not None and monotonic() >= end:
                raise TimeoutError(f"task {self.id} is {self.state.value} after {timeout} s")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return self

    @property
    def _known(self) -> dict[str, Any]:
        if self._row is None:
            self.refresh()
        if self._row is None:
            raise TaskNotFound
        return self._row


def submit(
    task_type: str,
    payload: Any = None,
    *,
    tenant: str | None = None,
    actor: str = "python",
    **options: Any,
) -> TaskHandle:
    """Submit a task from Python; its row joins the caller's transaction, so both or none happen.

    Inside a running task the tenant is that task's by default, and it becomes the parent.

    Args:
        payload: the handler's payload model or its JSON values.
        tenant: slug; `default` outside tasks.
        actor: shown in the history, at most 100 characters.
        **options: those of the API's submission body (`delay`, `run_at`, `tags`, `unique`,
            `priority`, `retry`, ...); `retry` may be a `Retry`.

    Raises:
        UnknownTaskType, ValidationFailed, PayloadTooLarge, DuplicateTask: as over the API.
        QuotaExceeded: the tenant or the queue has no room; `.fields` say which and how much.
        TooManyQueues: the queue is not there, and submissions make no more.
        TaskTooDeep, TooManyChildren: inside a task; see the settings of these limits.
        NotFound: no such tenant.

    Concurrency: one statement once the tenant is known to the process, one more inside a task.
    With a quota, other submissions wait until the caller's transaction ends.
    """
    context = current_task()
    slug = tenant or (context.tenant if context else DEFAULT_TENANT)
    is_child = context is not None and context.tenant == slug
    submission = read_submission(
        {"type": task_type, "payload": _plain_payload(task_type, payload), **_plain(options)}
    )
    submitted = submit_task(
        caller=Caller(tenant_id=tenant_id_of(slug), actor=actor[:100]),
        submission=submission,
        origin=Origin() if context is None else _origin_in(context, is_child=is_child),
    )
    return TaskHandle(submitted.task_id, tenant=slug, is_existing=submitted.is_existing)


def _origin_in(context: TaskContext, *, is_child: bool) -> Origin:
    """Give the origin of what a task submits; one of another tenant is as deep, but no child."""
    return Origin(
        parent=context.task_id if is_child else None,
        root=(context.info.root or context.task_id) if is_child else None,
        depth=context.info.depth + 1,
        traceparent=context.info.traceparent or "",
    )


def _plain_payload(task_type: str, payload: Any) -> Any:
    if isinstance(payload, BaseModel):
        return payload.model_dump(mode="json")
    adapter = get_handler(task_type).payload_adapter
    if adapter is None or payload is None or isinstance(payload, dict | list | str | int | float):
        return payload
    return adapter.dump_python(payload, mode="json")


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    plain = dict(options)
    if isinstance(plain.get("retry"), Retry):
        plain["retry"] = plain["retry"].as_json()
    for name in ("tags", "webhook_urls"):
        if isinstance(plain.get(name), tuple | set | frozenset):
            plain[name] = list(plain[name])
    return plain
