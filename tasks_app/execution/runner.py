"""Runs one attempt: claim, decode, call, decide, persist.

Each step is small and has one outcome; keep it so.

Called by the Celery task of every task type in a pool child. Never raises into Celery: whatever
happens is written to the row, or, where it cannot be, left to the lease keeper and the maintain
loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pydantic import ValidationError

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.context import AttemptInfo, TaskContext, running_in
from tasks_app.errors import LeaseLost, ProcessTimeout
from tasks_app.execution import kill
from tasks_app.execution.bundle import ClaimedBundle
from tasks_app.execution.child import Child
from tasks_app.execution.connection import BROKEN
from tasks_app.execution.finish import Write, plan_write, write_fenced
from tasks_app.execution.logbuffer import LogBuffer
from tasks_app.execution.outcomes import (
    Abandoned,
    Outcome,
    Stopped,
    Succeeded,
    failed,
    payload_refused,
    store_result,
)
from tasks_app.execution.sink import AttemptSink
from tasks_app.execution.slots import MOST_MEMBERS
from tasks_app.hints import Hint
from tasks_app.registry import Handler
from tasks_app.telemetry import logger
from tasks_app.transitions import Claim, Success

log = logger(__name__)


def run_hints(child: Child, handler: Handler, hints: Sequence[Hint]) -> Write | None:
    """Run the attempts that a message names, those that are still to be had, one after the other.

    Returns:
        What was written of the last; None where it succeeded, or where nothing was.
    """
    write: Write | None = None
    for start in range(0, len(hints), MOST_MEMBERS):
        bundle = _claim(child, hints[start : start + MOST_MEMBERS])
        if bundle is None:
            continue
        try:
            while (claim := bundle.take()) is not None:
                write = _run_claimed(child, handler, bundle, claim)
        finally:
            bundle.finish()
    return write


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed attempt in this child.

    Attributes:
        began_at: monotonic seconds of the call; its timeout counts from there.
        run: its number in the slot.
    """

    child: Child
    handler: Handler
    bundle: ClaimedBundle
    claim: Claim
    began_at: float
    run: int
    sink: AttemptSink

    @classmethod
    def of(cls, child: Child, handler: Handler, bundle: ClaimedBundle, claim: Claim) -> Attempt:
        """Publish a claim in the slot table, and open its sink."""
        began_at = monotonic()
        facts = (claim.id, claim.epoch, bundle.asked_at, began_at + claim.process_timeout)
        run = child.table.publish(child.index, child.pid, facts)
        sink = _sink(child, claim, bundle.answered_at, (run, facts[3]))
        return cls(child, handler, bundle, claim, began_at, run, sink)

    @property
    def began_seconds(self) -> float:
        """Seconds from the claim to the call."""
        return self.began_at - self.bundle.answered_at


def _run_claimed(
    child: Child, handler: Handler, bundle: ClaimedBundle, claim: Claim
) -> Write | None:
    attempt = Attempt.of(child, handler, bundle, claim)
    try:
        context = _context(attempt)
        with running_in(context):
            return _persist(attempt, _run(attempt, context))
    finally:
        child.table.clear(child.index, child.pid)


def _claim(child: Child, hints: Sequence[Hint]) -> ClaimedBundle | None:
    """Claim what a message names; None where nothing of it is to be had.

    Where the database is away the hints are dropped, the sweep brings them again.
    """
    asked_at = monotonic()
    try:
        if child.table.is_stopping:
            child.connection.run(lambda cursor: transitions.return_hints(cursor, hints))
            return None
        claims = child.connection.run(
            lambda cursor: transitions.claim(
                cursor,
                hints,
                owner=child.owner,
                worker=child.worker,
                lease_seconds=child.settings.lease_seconds,
            )
        )
    except BROKEN as error:
        log.warning("hints dropped, the database does not answer", reason=str(error)[:200])
        return None
    return ClaimedBundle(child, claims, asked_at=asked_at) if claims else None


def _sink(
    child: Child, claim: Claim, claimed_at: float, run_and_end: tuple[int, float]
) -> AttemptSink:
    (run, ends_at), table, index = run_and_end, child.table, child.index
    started_at = claim.run_deadline - timedelta(seconds=claim.process_timeout)
    return AttemptSink(
        claim,
        child.connection,
        child.flusher.bell,
        lines=LogBuffer(started_at, claimed_at, max_bytes=child.settings.max_log_bytes),
        interrupts=child.interrupts,
        is_cancelled=lambda: table.is_cancelled(index, run),
        ends_at=ends_at,
        extended=lambda until: table.extend(index, run, until),
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
        deadline=claim.run_deadline + timedelta(seconds=attempt.began_seconds),
        deadline_monotonic=attempt.began_at + claim.process_timeout,
        metadata=claim.metadata,
        tags=tuple(claim.tags),
        worker=attempt.child.worker,
        traceparent=claim.traceparent or None,
        root=claim.root,
        depth=claim.depth,
    )
    return TaskContext(info, attempt.sink)


def _run(attempt: Attempt, context: TaskContext) -> Outcome:
    """Decode and call; turn whatever comes of it into an outcome."""
    handler, child = attempt.handler, attempt.child
    try:
        payload = handler.decode_payload(attempt.claim.payload)
    except ValidationError as error:
        return payload_refused(error)
    child.capture.sink = attempt.sink
    try:
        value = child.caller.call(handler, handler.arguments(payload, context), run=attempt.run)
    except BaseException as error:  # noqa: BLE001 - the handler call
        return _after_exception(attempt, error)
    finally:
        child.capture.sink = None
    return store_result(handler, value, max_bytes=child.settings.max_payload_bytes)


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
    if isinstance(outcome, Succeeded):
        attempt.bundle.end(
            Success(
                id=claim.id,
                epoch=claim.epoch,
                result=outcome.result,
                began_seconds=attempt.began_seconds,
                took_seconds=monotonic() - attempt.began_at,
            )
        )
        return None
    planned = plan_write(claim, outcome, began_seconds=attempt.began_seconds)
    if planned is None:
        log.info("attempt abandoned, its lease is gone", epoch=claim.epoch)
        return None
    try:
        won = write_fenced(child.connection, planned, worker=child.worker)
    except BROKEN as error:
        log.warning("attempt left to the rescue", reason=str(error)[:200], epoch=claim.epoch)
        return None
    return planned.write if won else None
