"""The only module of the platform that other apps and authors of handlers import.

Declare a handler in a module named `handlers` of an installed app, and submit tasks to it:

    from pydantic import BaseModel
    from tasks_app.public import Permanent, Retry, TaskContext, handler

    class Order(BaseModel):
        order_id: int

    @handler("orders.process", queue="orders", retry=Retry.exponential(1, max_delay=60))
    def process_order(order: Order, ctx: TaskContext) -> dict[str, str]:
        ctx.progress(50, "charging the card")
        if order.order_id < 0:
            raise Permanent("INVALID_DATA", "no such order")
        return {"charge": ctx.once("charge", lambda: f"ch_{order.order_id}")}

    task = process_order.submit(Order(order_id=42), tags=["vip"])
    task.wait(timeout=30).result

The names in `__all__` are stable; everything else in the package may change.
"""

from __future__ import annotations

import uuid

from tasks_app.adoption import from_celery
from tasks_app.context import TaskContext, current_task
from tasks_app.errors import (
    DuplicateTask,
    LeaseLost,
    NotAdoptable,
    NotFinished,
    PayloadTooLarge,
    Permanent,
    ProcessTimeout,
    QuotaExceeded,
    RequestError,
    RetryLater,
    StateConflict,
    TaskCancelled,
    TaskmillError,
    TaskNotFound,
    TaskTooDeep,
    TooManyChildren,
    TooManyQueues,
    UnknownTaskType,
    ValidationFailed,
)
from tasks_app.events import EventType
from tasks_app.policies import ErrorInfo, Retry
from tasks_app.registry import Handler, handler
from tasks_app.selectors import DEFAULT_TENANT, tenant_id_of
from tasks_app.services.caller import Caller
from tasks_app.services.cancel import CancelAnswer, cancel_task
from tasks_app.services.handles import TaskHandle, submit
from tasks_app.services.redrive import retry_task
from tasks_app.states import State, Status

__all__ = [
    "CancelAnswer",
    "DuplicateTask",
    "ErrorInfo",
    "EventType",
    "Handler",
    "LeaseLost",
    "NotAdoptable",
    "NotFinished",
    "PayloadTooLarge",
    "Permanent",
    "ProcessTimeout",
    "QuotaExceeded",
    "RequestError",
    "Retry",
    "RetryLater",
    "State",
    "StateConflict",
    "Status",
    "TaskCancelled",
    "TaskContext",
    "TaskHandle",
    "TaskNotFound",
    "TaskTooDeep",
    "TaskmillError",
    "TooManyChildren",
    "TooManyQueues",
    "UnknownTaskType",
    "ValidationFailed",
    "caller_for",
    "cancel",
    "current_task",
    "from_celery",
    "get_task",
    "handler",
    "retry",
    "submit",
]


def caller_for(*, tenant: str = DEFAULT_TENANT, actor: str = "python") -> Caller:
    """Say for whom a call acts, as the functions of `scheduler.public` ask for it.

    Args:
        tenant: slug.
        actor: shown in the history, at most 100 characters.

    Raises:
        NotFound: there is no active tenant of this slug.
    """
    return Caller(tenant_id=tenant_id_of(tenant), actor=actor[:100])


def get_task(task_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT) -> TaskHandle:
    """Give the handle of a task.

    Raises:
        TaskNotFound: no such task of this tenant.
    """
    return TaskHandle(task_id, tenant=tenant).refresh()


def cancel(
    task_id: uuid.UUID,
    *,
    tenant: str = DEFAULT_TENANT,
    reason: str = "",
    is_forced: bool = False,
    actor: str = "python",
) -> CancelAnswer:
    """Cancel a pending task, or ask a running one to stop.

    Raises:
        TaskNotFound: no such task of this tenant.
        StateConflict: it finished otherwise.
    """
    caller = caller_for(tenant=tenant, actor=actor)
    return cancel_task(caller=caller, task_id=task_id, reason=reason, is_forced=is_forced)


def retry(task_id: uuid.UUID, *, tenant: str = DEFAULT_TENANT, actor: str = "python") -> TaskHandle:
    """Queue a task that did not succeed once more, and give its handle.

    Raises:
        TaskNotFound: no such task of this tenant.
        StateConflict: it is unfinished or succeeded.
        DuplicateTask: a live task holds its unique key.
    """
    retry_task(caller=caller_for(tenant=tenant, actor=actor), task_id=task_id)
    return TaskHandle(task_id, tenant=tenant)
