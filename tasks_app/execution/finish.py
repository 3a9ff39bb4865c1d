"""Writes what attempts came to: one fenced statement for each failure, one for many successes;
repeated while the database is away.

A refused write is looked at once: where it was repeated, our own earlier try may have won; else the
attempt is no longer ours, which is recorded (`record_stale`) and stays quiet.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks_app import transitions
from tasks_app.clock import monotonic
from tasks_app.conf import conf
from tasks_app.db import Cursor
from tasks_app.execution.connection import Connection
from tasks_app.execution.deciding import decide
from tasks_app.execution.outcomes import (
    Failed,
    Outcome,
    Stopped,
    Unstorable,
    error_json,
    own_frame,
    storable,
)
from tasks_app.policies import ErrorInfo, Verdict
from tasks_app.states import Verb
from tasks_app.telemetry import logger
from tasks_app.transitions import Claim, Success

_OUTCOME: Final = (
    "SELECT outcome, worker FROM taskmill_attempt WHERE task_id = %(id)s AND epoch = %(epoch)s"
)

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Write:
    """A change by a worker that its epoch fences.

    Attributes:
        attempt_outcome: what the attempt row says once it is carried out.
        digest: the text it stores, of which a refusal keeps the hash.
    """

    task_id: uuid.UUID
    epoch: int
    verb: Verb
    attempt_outcome: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """A write with the function that carries it out."""

    write: Write
    run: Callable[[Cursor], Any]


def plan_write(claim: Claim, outcome: Outcome, *, began_seconds: float) -> Statement | None:
    """Give the statement for an outcome that is no success; None where nothing is to be written.

    Args:
        began_seconds: from the claim to the call of the handler.
    """
    match outcome:
        case Failed(error=error):
            return _after_failure(claim, error, began_seconds)
        case Unstorable(error=error):
            verdict = Verdict(is_retry=False, is_retryable=False, final_state="error")
            return _ending(claim, error, verdict, began_seconds)
        case Stopped():
            return Statement(
                Write(claim.id, claim.epoch, Verb.CONFIRM_CANCEL, "cancelled"),
                lambda cursor: transitions.confirm_cancel(
                    cursor, claim.id, epoch=claim.epoch, how="cooperative"
                ),
            )
        case _:
            return None


def _after_failure(claim: Claim, error: ErrorInfo, began_seconds: float) -> Statement:
    verdict = decide(
        claim.type,
        claim.retry_policy,
        error,
        failed_attempts=claim.attempts_made,
        attempts_left=claim.attempts_left,
    )
    if not verdict.is_retry:
        return _ending(claim, error, verdict, began_seconds)
    shown = error_json(error, attempt=claim.attempt, is_retryable=True)
    outcome = "timeout" if error.is_process_timeout else "failed"
    return Statement(
        Write(claim.id, claim.epoch, Verb.RETRY, outcome, shown),
        lambda cursor: transitions.retry(
            cursor,
            claim.id,
            epoch=claim.epoch,
            delay_seconds=verdict.delay_seconds,
            error=shown,
            traceback=storable(error.traceback),
            is_timeout=error.is_process_timeout,
            began_seconds=began_seconds,
        ),
    )


def _ending(claim: Claim, error: ErrorInfo, verdict: Verdict, began_seconds: float) -> Statement:
    shown = error_json(error, attempt=claim.attempt, is_retryable=verdict.is_retryable)
    state = verdict.final_state or "failed"
    outcome = "timeout" if state == "timeout" else "failed"
    return Statement(
        Write(claim.id, claim.epoch, Verb.FAIL, outcome, shown),
        lambda cursor: transitions.fail(
            cursor,
            claim.id,
            epoch=claim.epoch,
            state=state,
            error=shown,
            traceback=storable(error.traceback),
            frame=own_frame(storable(error.traceback)),
            began_seconds=began_seconds,
        ),
    )


def write_fenced(connection: Connection, planned: Statement, *, worker: str) -> bool:
    """Carry a write out; False where the attempt is no longer this worker's.

    Raises:
        psycopg.OperationalError: the database stayed away for longer than the lease; the attempt
            will be rescued.
    """
    end = monotonic() + conf().lease_seconds
    won, is_repeated = connection.run_until(planned.run, end=end)
    if won or (is_repeated and _was_ours(connection, planned.write, worker)):
        return True
    _record_stale(connection, planned.write, worker)
    return False


def write_successes(connection: Connection, ended: Sequence[Success], *, worker: str) -> None:
    """Store successes in one statement; those that are no longer this worker's are recorded.

    Raises:
        psycopg.OperationalError: the database stayed away for longer than the lease; the attempts
            will be rescued.
    """
    end = monotonic() + conf().lease_seconds
    written, is_repeated = connection.run_until(
        lambda cursor: transitions.succeed(cursor, ended), end=end
    )
    for one in ended:
        if one.id in written:
            continue
        write = Write(one.id, one.epoch, Verb.SUCCEED, "success", one.result)
        if not (is_repeated and _was_ours(connection, write, worker)):
            _record_stale(connection, write, worker)


def _record_stale(connection: Connection, write: Write, worker: str) -> None:
    connection.run_until(
        lambda cursor: transitions.record_stale(
            cursor,
            write.task_id,
            epoch=write.epoch,
            verb=write.verb.value,
            worker=worker,
            digest=hashlib.sha256(write.digest.encode()).hexdigest(),
        ),
        end=monotonic() + conf().lease_seconds,
    )
    log.info(
        "stale write refused",
        task_id=str(write.task_id),
        epoch=write.epoch,
        verb=write.verb.value,
    )


def _was_ours(connection: Connection, write: Write, worker: str) -> bool:
    def read(cursor: Cursor) -> Any:
        cursor.execute(_OUTCOME, {"id": write.task_id, "epoch": write.epoch})
        return cursor.fetchone()

    row, _ = connection.run_until(read, end=monotonic() + conf().lease_seconds)
    return row is not None and tuple(row) == (write.attempt_outcome, worker)
