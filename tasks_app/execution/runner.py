"""Runs one attempt: claim, decode, call, decide, persist.

Each step is small and has one outcome; keep it so.

Called by the Celery task of every task type in a pool child. Never raises into Celery: whatever
happens is written to the row, or, where it cannot be, left to the lease keeper and the maintain
loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from pydantic import ValidationError

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.context import AttemptInfo, TaskContext, running_in
from tasks_app.errors import LeaseLost, ProcessTimeout
from tasks_app.execution import kill
from tasks_app.execution.child import Child
from tasks_app.execution.connection import BROKEN
from tasks_app.execution.finish import Write, plan_write, write_fenced
from tasks_app.execution.logbuffer import LogBuffer
from tasks_app.execution.outcomes import (
    Abandoned,
    Outcome,
    Stopped,
    failed,
    payload_refused,
    store_result,
)
from tasks_app.execution.sink import AttemptSink
from tasks_app.registry import Handler
from tasks_app.telemetry import logger
from tasks_app.transitions import Claim, DispatchedTask

log = logger(__name__)


def run_hint(child: Child, handler: Handler, task_id: uuid.UUID, dispatch_seq: int) -> Write | None:
    """Run the attempt that a hint names, if it is still to be had; gives what was written of it.

    Args:
        dispatch_seq: the hint's number; an older one than the row's claims nothing.
    """
    if child.table.is_stopping:
        _give_back(child, handler, task_id, dispatch_seq)
        return None
    claimed_at = monotonic()
    claim = _claim(child, task_id, dispatch_seq)
    if claim is None:
        return None
    attempt = Attempt.of(child, handler, claim, claimed_at)
    try:
        with structlog.contextvars.bound_contextvars(
            task_id=str(task_id), attempt=claim.attempt, worker=child.worker
        ):
            return _persist(attempt, _run(attempt))
    finally:
        child.table.clear(child.index, child.pid)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt in this child.

    `run` is its number in the slot, `claimed_at` monotonic seconds.
    """

    child: Child
    handler: Handler
    claim: Claim
    claimed_at: float
    run: int
    sink: AttemptSink

    @classmethod
    def of(cls, child: Child, handler: Handler, claim: Claim, claimed_at: float) -> Attempt:
        """Publish a claim in the slot table, and open its sink."""
        deadline = claimed_at + claim.process_timeout
        facts = (claim.id, claim.epoch, claimed_at, deadline)
        run = child.table.publish(child.index, child.pid, facts)
        return cls(child, handler, claim, claimed_at, run, _sink(child, claim, claimed_at, run))


def _give_back(child: Child, handler: Handler, task_id: uuid.UUID, dispatch_seq: int) -> None:
    hint = DispatchedTask(task_id, dispatch_seq, handler.type, handler.options.queue, 0)
    _quietly(lambda: child.connection.run(lambda cursor: transitions.undispatch(cursor, [hint])))


def _claim(child: Child, task_id: uuid.UUID, dispatch_seq: int) -> Claim | None:
    found: Claim | None = _quietly(
        lambda: child.connection.run(
            lambda cursor: transitions.claim(
                cursor,
                task_id,
                dispatch_seq=dispatch_seq,
                owner=child.owner,
                worker=child.worker,
                lease_seconds=conf().lease_seconds,
            )
        )
    )
    return found


def _quietly(statement: Callable[[], Any]) -> Any:
    """Run a statement before an attempt.

    Where the database is away the hint is dropped, the sweep brings it again.
    """
    try:
        return statement()
    except BROKEN as error:
        log.warning("hint dropped, the database does not answer", reason=str(error)[:200])
        return None


def _sink(child: Child, claim: Claim, claimed_at: float, run: int) -> AttemptSink:
    table, index = child.table, child.index
    started_at = claim.run_deadline - timedelta(seconds=claim.process_timeout)
    return AttemptSink(
        claim,
        child.connection,
        child.bell,
        lines=LogBuffer(started_at, claimed_at, max_bytes=conf().max_log_bytes),
        interrupts=child.interrupts,
        is_cancelled=lambda: table.is_cancelled(index, run),
    )


def _context(attempt: Attempt) -> TaskContext:
    claim = attempt.claim
    info = AttemptInfo(
        task_id=claim.id,
        type=claim.type,
        queue=claim.queue,
        tenant=claim.tenant,
        attempt=claim.attempt,
        epoch=claim.epoch,
        attempts_left=claim.attempts_left,
        priority=claim.priority,
        deadline=claim.run_deadline,
        deadline_monotonic=attempt.claimed_at + claim.process_timeout,
        metadata=claim.metadata,
        tags=tuple(claim.tags),
        worker=attempt.child.worker,
        traceparent=claim.traceparent or None,
    )
    return TaskContext(info, attempt.sink)


def _run(attempt: Attempt) -> Outcome:
    """Decode and call; turn whatever comes of it into an outcome."""
    handler, child = attempt.handler, attempt.child
    try:
        payload = handler.decode_payload(attempt.claim.payload)
    except ValidationError as error:
        return payload_refused(error)
    context = _context(attempt)
    child.capture.sink = attempt.sink
    try:
        with running_in(context):
            value = child.caller.call(handler, handler.arguments(payload, context), run=attempt.run)
    except BaseException as error:  # noqa: BLE001 - the handler call
        return _after_exception(attempt, error)
    finally:
        child.capture.sink = None
    return store_result(handler, value, max_bytes=conf().max_payload_bytes)


def _after_exception(attempt: Attempt, error: BaseException) -> Outcome:
    if isinstance(error, LeaseLost):
        return Abandoned()
    if isinstance(error, ProcessTimeout):
        kill.kill_descendants(attempt.child.pid)
        return failed(error)
    if attempt.sink.is_cancel_requested():
        kill.kill_descendants(attempt.child.pid)
        return Stopped()
    return failed(error)


def _persist(attempt: Attempt, outcome: Outcome) -> Write | None:
    attempt.sink.close()
    claim, child = attempt.claim, attempt.child
    write = plan_write(claim, outcome)
    if write is None:
        log.info("attempt abandoned, its lease is gone", epoch=claim.epoch)
        return None
    try:
        won = write_fenced(child.connection, claim.id, claim.epoch, write, worker=child.worker)
    except BROKEN as error:
        log.warning("attempt left to the rescue", reason=str(error)[:200], epoch=claim.epoch)
        return None
    return write if won else None
