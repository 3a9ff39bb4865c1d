"""Runs an adopted task: Celery's own tracer calls it, and what came of it becomes the attempt's.

The tracer brings the request, the hooks (`before_start`, `on_failure`, ...) and the signals. It is
used as `apply` uses it, without messages and without a result store: the row is the result.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject, Retry
from django.utils import timezone

from tasks_app.adoption.calls import HEADERS
from tasks_app.adoption.task import AdoptedTask, Call, current_call
from tasks_app.arguments import CallArguments
from tasks_app.context import TaskContext
from tasks_app.errors import Permanent, ProcessTimeout, RetryLater
from tasks_app.policies import ErrorInfo


class SoftTimeLimit(ProcessTimeout, SoftTimeLimitExceeded):
    """The process timeout as Celery's tasks know it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


def only_when_asked(_failed_attempts: int, _error: ErrorInfo) -> None:
    """Retry as Celery does: what `self.retry` or `autoretry_for` asks for, nothing else."""
    return


def run(task: AdoptedTask, payload: CallArguments, ctx: TaskContext, *, max_retry: int) -> Any:
    """Run an attempt.

    Raises:
        RetryLater: the function asked for a retry.
        Permanent: it raised `Ignore` or `Reject`.
        BaseException: what it raised.
    """
    call = Call(ctx)
    token = current_call.set(call)
    try:
        request = _request(payload, ctx, max_retry)
        traced = _tracer(task)(request["id"], payload.args, payload.kwargs, request)
    finally:
        current_call.reset(token)
    if traced.info is not None:
        raise _as_error(traced.info.retval)
    if call.is_again:
        raise RetryLater(_seconds(call.when))
    return None if task.ignore_result else traced.retval


def _request(payload: CallArguments, ctx: TaskContext, max_retry: int) -> dict[str, Any]:
    """Give what the function sees as `self.request`.

    Its retries are counted from what is left: a task that was retried by hand starts anew.
    """
    used = max(0, max_retry - ctx.info.attempts_left)
    task_id = str(ctx.task_id)
    return {
        "id": task_id,
        "root_id": str(ctx.info.root or task_id),
        "correlation_id": task_id,
        "task": ctx.info.type,
        "args": payload.args,
        "kwargs": payload.kwargs,
        "retries": min(used, ctx.attempt - 1),
        "hostname": ctx.info.worker,
        "is_eager": False,
        "ignore_result": True,
        "headers": ctx.metadata.get(HEADERS) or {},
        "delivery_info": {
            "exchange": "",
            "routing_key": ctx.info.queue,
            "priority": ctx.info.priority,
            "redelivered": False,
        },
    }


@cache
def _tracer(task: AdoptedTask) -> Any:
    return build_tracer(task.name, task, eager=True, propagate=False, app=task.app)


def _as_error(raised: BaseException) -> BaseException:
    match raised:
        case Retry():
            later = RetryLater(_seconds(raised.when), str(raised.exc or raised))
            later.__cause__ = raised.exc
            return later
        case Reject():
            reason, is_again = getattr(raised, "reason", None), getattr(raised, "requeue", False)
            later, end = RetryLater(0.0, f"rejected: {reason}"), Permanent("REJECTED", str(reason))
            return later if is_again else end
        case Ignore():
            return Permanent("IGNORED", str(raised) or "the task raised Ignore")
        case _:
            return raised


def _seconds(when: Any) -> float:
    if isinstance(when, datetime):
        return max(0.0, (when - timezone.now()).total_seconds())
    return max(0.0, float(when or 0))
