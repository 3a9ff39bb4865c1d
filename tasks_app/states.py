"""The states of a task, their public statuses, and which verb moves a task from where to where.

Pure data; `tasks_app.transitions` is the only code that carries a verb out. The same table stands
in docs/reference/states.md, and a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Stored state of a task."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    BLOCKED = "blocked"
    DISPATCHED = "dispatched"
    RETRYING = "retrying"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCESS = "success"
    FAILED = "failed"
    ERROR = "error"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class Status(StrEnum):
    """Public status of a task: the seven words of the contract."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"
    ERROR = "error"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


PENDING: Final = frozenset(
    {State.SCHEDULED, State.QUEUED, State.BLOCKED, State.DISPATCHED, State.RETRYING}
)
PROCESSING: Final = frozenset({State.RUNNING, State.CANCELLING})
UNDER_WAY: Final = PROCESSING | {State.DISPATCHED}
"""Handed out to workers and not ended: those that hold slots."""
FINISHED: Final = frozenset(
    {State.SUCCESS, State.FAILED, State.ERROR, State.CANCELLED, State.TIMEOUT}
)
DEAD_LETTERS: Final = frozenset({State.FAILED, State.ERROR, State.TIMEOUT})
REDRIVABLE: Final = frozenset({State.FAILED, State.ERROR, State.TIMEOUT, State.CANCELLED})


def status_of(state: str) -> Status:
    """Give the public status of a stored state."""
    stored = State(state)
    if stored in PENDING:
        return Status.PENDING
    if stored in PROCESSING:
        return Status.PROCESSING
    return Status(stored.value)


def states_of(status: str) -> frozenset[State]:
    """Give the stored states that a public status stands for."""
    return frozenset(state for state in State if status_of(state) == Status(status))


class Verb(StrEnum):
    """What can happen to a task; one guarded statement each in `tasks_app.transitions`."""

    SUBMIT = "submit"
    PROMOTE = "promote"
    BLOCK = "block"
    UNBLOCK = "unblock"
    DISPATCH = "dispatch"
    SWEEP = "sweep"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    INTERRUPT = "interrupt"
    REQUEST_CANCEL = "request_cancel"
    CONFIRM_CANCEL = "confirm_cancel"
    EXPIRE = "expire"
    RESCUE = "rescue"
    REDRIVE = "redrive"
    REVISE = "revise"


_S = State
TRANSITIONS: Final[dict[Verb, dict[State | None, frozenset[State]]]] = {
    Verb.SUBMIT: {None: frozenset({_S.QUEUED, _S.SCHEDULED})},
    Verb.PROMOTE: {_S.SCHEDULED: frozenset({_S.QUEUED}), _S.RETRYING: frozenset({_S.QUEUED})},
    Verb.BLOCK: {_S.QUEUED: frozenset({_S.BLOCKED})},
    Verb.UNBLOCK: {_S.BLOCKED: frozenset({_S.QUEUED})},
    Verb.DISPATCH: {_S.QUEUED: frozenset({_S.DISPATCHED})},
    Verb.SWEEP: {_S.DISPATCHED: frozenset({_S.QUEUED, _S.ERROR})},
    Verb.CLAIM: {_S.DISPATCHED: frozenset({_S.RUNNING})},
    Verb.SUCCEED: {s: frozenset({_S.SUCCESS}) for s in PROCESSING},
    Verb.FAIL: {s: frozenset({_S.FAILED, _S.ERROR, _S.TIMEOUT}) for s in PROCESSING},
    Verb.RETRY: {_S.RUNNING: frozenset({_S.RETRYING}), _S.CANCELLING: frozenset({_S.CANCELLED})},
    Verb.INTERRUPT: {_S.RUNNING: frozenset({_S.QUEUED}), _S.CANCELLING: frozenset({_S.CANCELLED})},
    Verb.REQUEST_CANCEL: {
        **{s: frozenset({_S.CANCELLED}) for s in PENDING},
        **{s: frozenset({_S.CANCELLING}) for s in PROCESSING},
    },
    Verb.CONFIRM_CANCEL: {_S.CANCELLING: frozenset({_S.CANCELLED})},
    Verb.EXPIRE: {
        **{s: frozenset({_S.TIMEOUT}) for s in PENDING},
        _S.RUNNING: frozenset({_S.RETRYING, _S.TIMEOUT}),
        _S.CANCELLING: frozenset({_S.TIMEOUT}),
    },
    Verb.RESCUE: {
        _S.RUNNING: frozenset({_S.RETRYING, _S.ERROR}),
        _S.CANCELLING: frozenset({_S.CANCELLED}),
    },
    Verb.REDRIVE: {s: frozenset({_S.QUEUED}) for s in REDRIVABLE},
    Verb.REVISE: {
        **{s: frozenset({_S.QUEUED, _S.SCHEDULED}) for s in PENDING - {_S.RETRYING}},
        _S.RETRYING: frozenset({_S.RETRYING}),
    },
}
"""verb -> from -> to; `None` is "does not exist yet"."""
