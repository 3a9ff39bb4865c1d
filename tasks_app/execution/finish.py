"""Writes what an attempt came to: one fenced statement, repeated while the database is away.

A refused write is looked at once: where it was repeated, our own earlier try may have won; else the
attempt is no longer ours, which is recorded (`record_stale`) and stays quiet.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import Cursor
from tasks_app.errors import UnknownTaskType
from tasks_app.execution.connection import Connection
from tasks_app.execution.outcomes import (
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    Unstorable,
    error_json,
    own_frame,
    storable,
)
from tasks_app.policies import ErrorInfo, Retry, Verdict, decide_after_failure
from tasks_app.registry import get_handler
from tasks_app.states import Verb
from tasks_app.telemetry import logger
from tasks_app.transitions import Claim, HintClaim

_OUTCOME: Final = (
    "SELECT outcome, worker FROM taskmill_attempt WHERE task_id = %(id)s AND epoch = %(epoch)s"
)

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """A fenced statement.

    Attributes:
        attempt_outcome: what the attempt row says once it is carried out.
        with_claim: the same together with the claim of another hint; None where the verb has no
            such form.
    """

    verb: Verb
    attempt_outcome: str
    statement: Callable[[Cursor], Any]
    digest: str = ""
    with_claim: Callable[[Cursor, HintClaim], tuple[bool, Claim | None]] | None = None


def policy_of(task_type: str, override: dict[str, Any] | None) -> Retry:
    """Give the retry policy of a task: its own, or its type's."""
    if override:
        return Retry.from_json(override)
    try:
        return get_handler(task_type).options.policy
    except UnknownTaskType:
        return Retry.smart()


def decide(claim: Claim, error: ErrorInfo) -> Verdict:
    """Decide what follows a failed attempt."""
    return decide_after_failure(
        policy_of(claim.type, claim.retry_policy),
        error,
        failed_attempts=claim.attempts_made,
        attempts_left=claim.attempts_left,
    )


def plan_write(claim: Claim, outcome: Outcome) -> Write | None:
    """Give the statement for an outcome; None where nothing is to be written."""
    match outcome:
        case Succeeded(result=result):
            return Write(
                Verb.SUCCEED,
                "success",
                lambda cursor: transitions.succeed(
                    cursor, claim.id, epoch=claim.epoch, result=result
                ),
                result,
                lambda cursor, following: transitions.succeed_and_claim(
                    cursor, claim.id, epoch=claim.epoch, result=result, following=following
                ),
            )
        case Failed(error=error):
            return _after_failure(claim, error)
        case Unstorable(error=error):
            return _ending(claim, error, state="error", is_retryable=False)
        case Stopped():
            return Write(
                Verb.CONFIRM_CANCEL,
                "cancelled",
                lambda cursor: transitions.confirm_cancel(
                    cursor, claim.id, epoch=claim.epoch, how="cooperative"
                ),
            )
        case _:
            return None


def _after_failure(claim: Claim, error: ErrorInfo) -> Write:
    verdict = decide(claim, error)
    if not verdict.is_retry:
        state = verdict.final_state or "failed"
        return _ending(claim, error, state=state, is_retryable=verdict.is_retryable)
    shown = error_json(error, attempt=claim.attempt, is_retryable=True)
    return Write(
        Verb.RETRY,
        "timeout" if error.is_process_timeout else "failed",
        lambda cursor: transitions.retry(
            cursor,
            claim.id,
            epoch=claim.epoch,
            delay_seconds=verdict.delay_seconds,
            error=shown,
            traceback=storable(error.traceback),
            is_timeout=error.is_process_timeout,
        ),
        shown,
    )


def _ending(claim: Claim, error: ErrorInfo, *, state: str, is_retryable: bool) -> Write:
    shown = error_json(error, attempt=claim.attempt, is_retryable=is_retryable)
    return Write(
        Verb.FAIL,
        "timeout" if state == "timeout" else "failed",
        lambda cursor: transitions.fail(
            cursor,
            claim.id,
            epoch=claim.epoch,
            state=state,
            error=shown,
            traceback=storable(error.traceback),
            frame=own_frame(storable(error.traceback)),
        ),
        shown,
    )


def write_fenced(
    connection: Connection,
    task_id: uuid.UUID,
    epoch: int,
    write: Write,
    *,
    worker: str,
    following: HintClaim | None = None,
) -> tuple[bool, Claim | None]:
    """Carry a write out, with the claim of a following hint where both go in one statement.

    Returns:
        Whether it was carried out, False where the attempt is no longer this worker's; and the
        claim, None where there is none, or not yet.

    Raises:
        psycopg.OperationalError: the database stayed away for longer than the lease; the attempt
            will be rescued.
    """

    def carry_out(cursor: Cursor) -> tuple[Any, Claim | None]:
        if following is None or write.with_claim is None:
            return write.statement(cursor), None
        return write.with_claim(cursor, following)

    end = monotonic() + conf().lease_seconds
    (won, claimed), is_repeated = connection.run_until(carry_out, end=end)
    if won or (is_repeated and _was_ours(connection, task_id, epoch, write, worker)):
        return True, claimed
    digest = hashlib.sha256(write.digest.encode()).hexdigest()
    connection.run_until(
        lambda cursor: transitions.record_stale(
            cursor, task_id, epoch=epoch, verb=write.verb.value, worker=worker, digest=digest
        ),
        end=end,
    )
    log.info("stale write refused", task_id=str(task_id), epoch=epoch, verb=write.verb.value)
    return False, claimed


def _was_ours(
    connection: Connection, task_id: uuid.UUID, epoch: int, write: Write, worker: str
) -> bool:
    def read(cursor: Cursor) -> Any:
        cursor.execute(_OUTCOME, {"id": task_id, "epoch": epoch})
        return cursor.fetchone()

    row, _ = connection.run_until(read, end=monotonic() + conf().lease_seconds)
    return row is not None and tuple(row) == (write.attempt_outcome, worker)
