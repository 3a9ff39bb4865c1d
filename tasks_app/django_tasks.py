"""The backend for Django's task framework: `enqueue()` submits a task of the platform.

    TASKS = {"default": {"BACKEND": "tasks_app.django_tasks.Backend", "QUEUES": []}}

Each `@task` function is a task type of its own, `django.<its path>`, declared where the decorator
runs, so that limits, statistics and failures are told apart by function. Nothing is imported by a
name that comes with a task: a type leads to the `Task` object that its own module declared.

Works with `django.tasks` (Django 6.0 and newer) and with its backport django-tasks, whichever is
there; imported by Django alone, where `TASKS` names it. Docs: docs/how-to/use-django-tasks.md.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final

from django.core import checks
from django.utils.module_loading import import_string
from typing_extensions import override

from tasks_app.arguments import CallArguments, as_json, declare_call
from tasks_app.context import TaskContext, current_task
from tasks_app.errors import HandlerDeclarationError, TaskNotFound
from tasks_app.registry import QUEUE_PATTERN
from tasks_app.selectors import DEFAULT_TENANT, find_task, task_attempts, tenant_id_of
from tasks_app.services.handles import submit
from tasks_app.states import Status, status_of

if TYPE_CHECKING:
    from django_tasks import base, exceptions, signals
    from django_tasks.backends.base import BaseTaskBackend
else:
    try:
        from django.tasks import base, exceptions, signals
        from django.tasks.backends.base import BaseTaskBackend
    except ImportError:
        from django_tasks import base, exceptions, signals
        from django_tasks.backends.base import BaseTaskBackend

PREFIX: Final = "django."
OPTIONS: Final = ("tenant", "max_retry", "timeout")
INVALID: Final[type[Exception]] = (
    getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
)
"""What an invalid task raises: the backport and Django 6.0 name it differently."""

_STATUSES: Final = {
    Status.PENDING: base.TaskResultStatus.READY,
    Status.PROCESSING: base.TaskResultStatus.RUNNING,
    Status.SUCCESS: base.TaskResultStatus.SUCCESSFUL,
}
_FALLBACK: Final = "tasks_app.errors.TaskError"
_CANCELLED: Final = {"type": "tasks_app.errors.TaskCancelled", "message": "it was cancelled"}

_declared: dict[str, base.Task[Any, Any]] = {}


class Backend(BaseTaskBackend):
    """See the module. Options: `tenant` (slug), `max_retry` (0), `timeout` (seconds)."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @override
    def validate_task(self, task: base.Task[Any, Any]) -> None:
        """Check a task, and declare its type the first time; Django calls this for every one."""
        super().validate_task(task)
        if not QUEUE_PATTERN.match(task.queue_name):
            raise INVALID(f"{task.queue_name!r} is no queue name (a-z, 0-9, . _ -)")
        task_type = type_of(task)
        if task_type in _declared and _declared[task_type].func is task.func:
            return
        try:
            self._declare(task_type, task)
        except HandlerDeclarationError as error:
            raise INVALID(str(error)) from error

    @override
    def enqueue(self, task: base.Task[Any, Any], args: Any, kwargs: Any) -> base.TaskResult[Any]:
        """Submit a task; its row joins the caller's transaction.

        Raises:
            InvalidTask: no worker would find the function as a task.
            TypeError: an argument that JSON cannot carry.
            tasks_app.public.RequestError: quotas and bounds, as for every submission.
        """
        self.validate_task(task)
        _check_found(task)
        result = self._result(
            task, "", status=base.TaskResultStatus.READY, args=list(args), kwargs=dict(kwargs)
        )
        payload = {
            "args": as_json(result.args, "args"),
            "kwargs": as_json(result.kwargs, "kwargs"),
        }
        handle = submit(
            type_of(task),
            payload,
            tenant=self.options.get("tenant"),
            actor="django.tasks",
            queue=task.queue_name,
            priority=task.priority,
            run_at=task.run_after,
        )
        _put(result, id=str(handle.id), enqueued_at=_made_at(handle.id))
        signals.task_enqueued.send(type(self), task_result=result)
        return result

    @override
    def get_result(self, result_id: str) -> base.TaskResult[Any]:
        """Read a task.

        Raises:
            TaskResultDoesNotExist: there is none of this id that is a Django task of this tenant.
        """
        try:
            task_id = uuid.UUID(result_id)
            row = find_task(tenant_id=tenant_id_of(self._tenant), task_id=task_id)
            task = _declared[row["type"]]
        except (ValueError, TaskNotFound, KeyError) as error:
            raise exceptions.TaskResultDoesNotExist(result_id) from error
        return self._read(task, row)

    @override
    def check(self, **_: Any) -> Iterable[checks.CheckMessage]:
        """E007: an option or a queue that is none."""
        for name in sorted(set(self.options) - set(OPTIONS)):
            yield checks.Error(
                f"TASKS[{self.alias!r}] has the unknown option {name!r}.",
                hint=f"There are {', '.join(OPTIONS)}.",
                id="taskmill.E007",
            )
        for name in sorted(one for one in self.queues if not QUEUE_PATTERN.match(one)):
            yield checks.Error(
                f"TASKS[{self.alias!r}] names {name!r}, which is no queue name.",
                hint="Use lower-case letters, digits, dots, underscores and hyphens.",
                id="taskmill.E007",
            )

    @property
    def _tenant(self) -> str:
        context = current_task()
        default = context.tenant if context else DEFAULT_TENANT
        return str(self.options.get("tenant") or default)

    def _declare(self, task_type: str, task: base.Task[Any, Any]) -> None:
        async def run_async(payload: CallArguments, ctx: TaskContext) -> Any:
            with _Run(self, task, payload, ctx) as run:
                return run.returned(await task.func(*run.arguments, **payload.kwargs))

        def run_sync(payload: CallArguments, ctx: TaskContext) -> Any:
            with _Run(self, task, payload, ctx) as run:
                return run.returned(task.func(*run.arguments, **payload.kwargs))

        declare_call(
            task_type,
            run_async if iscoroutinefunction(task.func) else run_sync,
            stands_for=task.func,
            first=int(task.takes_context),
            queue=task.queue_name,
            priority=task.priority,
            max_retry=self.options.get("max_retry", 0),
            timeout=self.options.get("timeout"),
        )
        _declared[task_type] = task

    def _result(
        self, task: base.Task[Any, Any], result_id: str, **facts: Any
    ) -> base.TaskResult[Any]:
        times = dict.fromkeys(("enqueued_at", "started_at", "finished_at", "last_attempted_at"))
        empty = {"errors": [], "worker_ids": [], "backend": self.alias}
        return base.TaskResult(task=task, id=result_id, **{**times, **empty, **facts})

    def _read(self, task: base.Task[Any, Any], row: dict[str, Any]) -> base.TaskResult[Any]:
        attempts = task_attempts(task_id=row["id"], with_traceback=True)
        status = _STATUSES.get(status_of(row["state"]), base.TaskResultStatus.FAILED)
        is_running = status is base.TaskResultStatus.RUNNING
        starts = [one["started_at"] for one in attempts]
        starts += [row["started_at"]] if is_running else []
        result = self._result(
            _as_enqueued(task, row),
            str(row["id"]),
            status=status,
            enqueued_at=row["created_at"],
            started_at=starts[0] if starts else None,
            last_attempted_at=starts[-1] if starts else None,
            finished_at=row["finished_at"],
            args=row["payload"].get("args", []),
            kwargs=row["payload"].get("kwargs", {}),
            errors=_errors(row, attempts, is_failed=status is base.TaskResultStatus.FAILED),
            worker_ids=[one["worker"] for one in attempts] + [row["worker"]] * is_running,
        )
        _put(result, _return_value=row["result"])
        return result

    def running(
        self, task: base.Task[Any, Any], payload: CallArguments, ctx: TaskContext
    ) -> base.TaskResult[Any]:
        """Give the result of the attempt that runs here, without a look at the store."""
        now = datetime.now(UTC)  # noqa: TID251 - shown, decides nothing
        return self._result(
            task,
            str(ctx.task_id),
            status=base.TaskResultStatus.RUNNING,
            enqueued_at=_made_at(ctx.task_id),
            started_at=now,
            last_attempted_at=now,
            args=payload.args,
            kwargs=payload.kwargs,
            worker_ids=[ctx.info.worker] * ctx.attempt,
        )


class _Run:
    """One call of a task's function: its context argument, and Django's signals around it."""

    def __init__(
        self,
        backend: Backend,
        task: base.Task[Any, Any],
        payload: CallArguments,
        ctx: TaskContext,
    ) -> None:
        self._sender = type(backend)
        self._result = backend.running(task, payload, ctx)
        own = [base.TaskContext(task_result=self._result)] if task.takes_context else []
        self.arguments = [*own, *payload.args]

    def __enter__(self) -> _Run:
        signals.task_started.send(sender=self._sender, task_result=self._result)
        return self

    def returned(self, value: Any) -> Any:
        """Note and give the returned value as JSON."""
        plain = as_json(value, "the returned value")
        _put(self._result, _return_value=plain, status=base.TaskResultStatus.SUCCESSFUL)
        return plain

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            _put(self._result, status=base.TaskResultStatus.FAILED)
        _put(self._result, finished_at=datetime.now(UTC))  # noqa: TID251 - shown, decides nothing
        signals.task_finished.send(self._sender, task_result=self._result)


def type_of(task: base.Task[Any, Any]) -> str:
    """Give the task type of a Django task."""
    return PREFIX + task.module_path.lower()


def _check_found(task: base.Task[Any, Any]) -> None:
    """See that a worker, which imports the module, finds the function as a task of ours."""
    path = task.module_path
    try:
        found = import_string(path)
    except ImportError:
        found = None
    if not isinstance(found, base.Task) or found.func is not task.func:
        raise INVALID(f"{path} is no task: decorate the function with @task in its module")
    if not isinstance(found.get_backend(), Backend):
        raise INVALID(
            f"{path} is declared for the backend {found.backend!r}, so that no worker of Taskmill "
            f"knows it: declare it with @task(backend={task.backend!r})"
        )


def _as_enqueued(task: base.Task[Any, Any], row: dict[str, Any]) -> base.Task[Any, Any]:
    """Give the task with the options of a row; not checked, an operator may have changed them."""
    found = copy.copy(task)
    later = row["run_at"] if row["run_at"] and row["run_at"] > row["created_at"] else None
    _put(found, priority=row["priority"], queue_name=row["queue"], run_after=later)
    return found


def _errors(
    row: dict[str, Any], attempts: list[dict[str, Any]], *, is_failed: bool
) -> list[base.TaskError]:
    found = [_error(one["error"], one["traceback"]) for one in attempts if one["error"]]
    if is_failed and not found:
        found = [_error(row["error"] or _CANCELLED, "")]
    return found


def _error(error: dict[str, Any], traceback: str) -> base.TaskError:
    name = str(error.get("type") or "")
    path = name if "." in name else f"builtins.{name}"
    try:
        import_string(path)
    except ImportError:
        path = _FALLBACK
    return base.TaskError(
        exception_class_path=path, traceback=traceback or str(error.get("message", ""))
    )


def _made_at(task_id: uuid.UUID) -> datetime:
    """Give when a task was submitted, by the milliseconds that its id begins with."""
    return datetime.fromtimestamp((task_id.int >> 80) / 1000, UTC)


def _put(frozen: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
