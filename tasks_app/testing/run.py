"""One attempt of a handler in this process: check, call, decide, encode, as a worker does.

`run_handler` is what `Handler.test_run` calls. Nothing here knows a database; the decision on a
failure is the platform's own (`tasks_app.policies`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
from django.utils import timezone
from pydantic_core import to_jsonable_python

from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.context import CHECKPOINT, AttemptInfo, Progress, TaskContext, running_in
from tasks_app.errors import ProcessTimeout, TaskCancelled
from tasks_app.execution.outcomes import Succeeded, failed, store_result
from tasks_app.execution.sink import LogCapture
from tasks_app.policies import ErrorInfo, decide_after_failure
from tasks_app.registry import Handler
from tasks_app.services.defaults import checked_payload
from tasks_app.testing.sink import Logs, RecordingSink, Spawned


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one attempt did, and what a worker would have made of it.

    Attributes:
        state: `success`, `failed`, `retrying`, `cancelled`, `timeout`, or `error` where the result
            cannot be stored.
        value: what the handler returned; None where it did not return.
        result: `value` as the JSON values that clients read; None unless `success`.
        error: what went wrong, or None; its `traceback` is filled.
        retry_in: seconds until the next attempt where `retrying`, else None. Jitter is left out: it
            is the longest wait of the policy.
        progress: every report in order; a worker coalesces them.
        steps: keys of the steps begun, in order.
        logs: the log lines, those of the standard library at INFO or above too;
            `logs.has("text")`.
        once_values: all that is stored for later attempts, by key, as JSON values.
        checkpoint: the value of the last `ctx.checkpoint`, of this attempt or those before.
        spawned: the children of `ctx.spawn`, in order; `.type`, `.payload`, `.options`.
    """

    state: str
    value: Any = None
    result: Any = None
    error: ErrorInfo | None = None
    retry_in: float | None = None
    progress: list[Progress] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    logs: Logs = field(default_factory=Logs)
    once_values: dict[str, Any] = field(default_factory=dict)
    checkpoint: Any = None
    spawned: list[Spawned] = field(default_factory=list)


def run_handler(
    declared: Handler,
    payload: Any = None,
    *,
    attempt: int = 1,
    max_retry: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    tenant: str = "default",
    cancel_after: int | None = None,
    once: Mapping[str, Any] | None = None,
    resume: Any = None,
    deadline_seconds: float | None = None,
) -> Run:
    """Run one attempt of a handler.

    Args:
        payload: the payload model or its JSON values; both travel through JSON, as in a submission.
        attempt: number of the attempt, 1 for the first.
        max_retry: further attempts after the first, 0 to 1000; None for the type's, then the
            platform's.
        cancel_after: the cancel is seen by this look at the context, counted from 1;
            `check_cancelled`, `is_cancelled`, `step`, `sleep` and each item of `track` look.
        once: values that earlier attempts stored by `ctx.once`, by key; `once_values` of their
            runs brings their checkpoint and children too.
        resume: the checkpoint of an earlier attempt.
        deadline_seconds: process timeout of the attempt. `ProcessTimeout` strikes at the next look
            at the context (a worker strikes anywhere); a handler that returns later is late too.

    Raises:
        ValidationFailed: a submission of this payload would be refused; `.errors` names each place.
        PayloadTooLarge: its JSON is above the limit.
        ValueError: an argument is out of range.
    """
    retries = _max_retry_of(declared, max_retry)
    _check_arguments(attempt, retries, cancel_after)
    typed = _typed_payload(declared, payload)
    info = AttemptInfo(
        task_id=uuid.uuid4(),
        type=declared.type,
        queue=declared.options.queue,
        tenant=tenant,
        attempt=attempt,
        epoch=attempt,
        attempts_left=retries + 1 - attempt,
        priority=declared.options.priority or 0,
        metadata=dict(metadata or {}),
        tags=tuple(tags),
        worker="test",
    )
    info = _timed(info, deadline_seconds)
    once = {**(once or {}), **({} if resume is None else {CHECKPOINT: resume})}
    return _run(declared, typed, info, cancel_after=cancel_after, once=once)


def _timed(info: AttemptInfo, seconds: float | None) -> AttemptInfo:
    if seconds is None:
        return info
    ends_at = timezone.now() + timedelta(seconds=seconds)
    return replace(info, deadline=ends_at, deadline_monotonic=monotonic() + seconds)


def _run(
    declared: Handler,
    payload: Any,
    info: AttemptInfo,
    *,
    cancel_after: int | None,
    once: Mapping[str, Any] | None,
) -> Run:
    sink = RecordingSink(
        cancel_after=cancel_after, once=once, deadline_monotonic=info.deadline_monotonic
    )
    outcome = _outcome(declared, payload, TaskContext(info, sink), sink)
    return Run(
        **outcome,
        progress=sink.reports,
        steps=_steps_of(sink.reports),
        logs=sink.logs,
        once_values=sink.once_values,
        checkpoint=sink.stored(CHECKPOINT),
        spawned=sink.spawned,
    )


def _max_retry_of(declared: Handler, given: int | None) -> int:
    if given is not None:
        return given
    declared_most = declared.options.max_retry
    return conf().max_retry if declared_most is None else declared_most


def _check_arguments(attempt: int, max_retry: int, cancel_after: int | None) -> None:
    if not 1 <= attempt <= max_retry + 1:
        raise ValueError(f"attempt must be 1 to {max_retry + 1} (max_retry + 1), not {attempt}")
    if cancel_after is not None and cancel_after < 1:
        raise ValueError("cancel_after counts looks from 1")


def _typed_payload(declared: Handler, payload: Any) -> Any:
    stored = checked_payload(declared, to_jsonable_python(payload))
    return declared.decode_payload(orjson.loads(orjson.dumps(stored)))


def _outcome(
    declared: Handler, payload: Any, context: TaskContext, sink: RecordingSink
) -> dict[str, Any]:
    try:
        with _log_capture(sink):
            value = _call(declared, payload, context)
    except ProcessTimeout as error:
        return _failure(declared, context, error)
    except (TaskCancelled, Exception, SystemExit) as error:  # noqa: BLE001 - the handler call
        if sink.was_cancel_seen:
            return {"state": "cancelled"}
        return _failure(declared, context, error)
    if sink.is_late:
        late = ProcessTimeout("the process timeout was over when the handler returned")
        return _failure(declared, context, late)
    return _success(declared, value)


def _call(declared: Handler, payload: Any, context: TaskContext) -> Any:
    with running_in(context):
        returned = declared.function(*declared.arguments(payload, context))
        return _finish(returned) if declared.is_async else returned


@contextmanager
def _log_capture(sink: RecordingSink) -> Iterator[None]:
    capture, root = LogCapture(), logging.getLogger()
    capture.sink = sink
    root.addHandler(capture)
    try:
        yield
    finally:
        root.removeHandler(capture)


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, in a thread of its own where this one's event loop is busy."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()


def _success(declared: Handler, value: Any) -> dict[str, Any]:
    stored = store_result(declared, value, max_bytes=conf().max_payload_bytes)
    if isinstance(stored, Succeeded):
        return {"state": "success", "value": value, "result": orjson.loads(stored.result)}
    return {"state": "error", "value": value, "error": stored.error}


def _failure(declared: Handler, context: TaskContext, error: BaseException) -> dict[str, Any]:
    described = failed(error).error
    verdict = decide_after_failure(
        declared.options.policy,
        described,
        failed_attempts=context.attempt,
        attempts_left=context.info.attempts_left,
        rng=lambda: 1.0,
    )
    if verdict.is_retry:
        return {"state": "retrying", "error": described, "retry_in": verdict.delay_seconds}
    return {"state": verdict.final_state, "error": described}


def _steps_of(reports: Sequence[Progress]) -> list[str]:
    steps = reports[-1].detail.get("steps", []) if reports else []
    return [str(step["key"]) for step in steps]
