"""Runs one attempt: claim, decode, call, decide, persist.

Each step is small and has one outcome; keep it so.

Called by the Celery task of every task type in a pool child. Never raises into Celery: whatever
happens is written to the row, or, where it cannot be, left to the lease keeper and the maintain
loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
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
from tasks_app.transitions import Claim, DispatchedTask, HintClaim

log = logger(__name__)


Hint = tuple[uuid.UUID, int]
"""A task's id and the number of its dispatch; an older number than the row's claims nothing."""


def run_hints(child: Child, handler: Handler, hints: Sequence[Hint]) -> Write | None:
    """Run the attempts that a message names, those that are still to be had, one after the other.

    Where one succeeds, its end and the claim of the next are one statement.

    Returns:
        What was written of the last.
    """
    write: Write | None = None
    claimed: Claimed | None = None
    for place, hint in enumerate(hints):
        claimed = claimed or _claim(child, handler, hint)
        if claimed is None:
            continue
        following = hints[place + 1] if place + 1 < len(hints) else None
        write, claimed = _run_claimed(child, handler, claimed, following)
    return write


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim, and the monotonic seconds before it was asked for."""

    claim: Claim
    at: float


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
    def of(cls, child: Child, handler: Handler, claimed: Claimed) -> Attempt:
        """Publish a claim in the slot table, and open its sink."""
        claim = claimed.claim
        facts = (claim.id, claim.epoch, claimed.at, claimed.at + claim.process_timeout)
        run = child.table.publish(child.index, child.pid, facts)
        return cls(child, handler, claim, claimed.at, run, _sink(child, claim, claimed.at, run))


def _run_claimed(
    child: Child, handler: Handler, claimed: Claimed, following: Hint | None
) -> tuple[Write | None, Claimed | None]:
    attempt = Attempt.of(child, handler, claimed)
    try:
        with structlog.contextvars.bound_contextvars(
            task_id=str(claimed.claim.id), attempt=claimed.claim.attempt, worker=child.worker
        ):
            return _persist(attempt, _run(attempt), following)
    finally:
        child.table.clear(child.index, child.pid)


def _give_back(child: Child, handler: Handler, task_id: uuid.UUID, dispatch_seq: int) -> None:
    hint = DispatchedTask(task_id, dispatch_seq, handler.type, handler.options.queue, 0)
    _quietly(lambda: child.connection.run(lambda cursor: transitions.undispatch(cursor, [hint])))


def _claim(child: Child, handler: Handler, hint: Hint) -> Claimed | None:
    if child.table.is_stopping:
        _give_back(child, handler, *hint)
        return None
    at, wanted = monotonic(), _wanted(child, hint)
    claim: Claim | None = _quietly(
        lambda: child.connection.run(lambda cursor: transitions.claim(cursor, wanted))
    )
    return None if claim is None else Claimed(claim, at)


def _wanted(child: Child, hint: Hint) -> HintClaim:
    return HintClaim(
        task_id=hint[0],
        dispatch_seq=hint[1],
        owner=child.owner,
        worker=child.worker,
        lease_seconds=conf().lease_seconds,
    )


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
        root=claim.root,
        depth=claim.depth,
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


def _persist(
    attempt: Attempt, outcome: Outcome, following: Hint | None
) -> tuple[Write | None, Claimed | None]:
    attempt.sink.close()
    claim, child = attempt.claim, attempt.child
    write = plan_write(claim, outcome)
    if write is None:
        log.info("attempt abandoned, its lease is gone", epoch=claim.epoch)
        return None, None
    is_claiming = following is not None and not child.table.is_stopping
    wanted = _wanted(child, following) if is_claiming and following is not None else None
    at = monotonic()
    try:
        won, claimed = write_fenced(
            child.connection, claim.id, claim.epoch, write, worker=child.worker, following=wanted
        )
    except BROKEN as error:
        log.warning("attempt left to the rescue", reason=str(error)[:200], epoch=claim.epoch)
        return None, None
    return (write if won else None), (None if claimed is None else Claimed(claimed, at))
