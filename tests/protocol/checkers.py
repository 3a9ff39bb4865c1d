"""Checkers C1 to C8 of the reliability protocol: pure functions from a history to its violations.

`read_history(cursor)` takes rows, events and attempts from the store; any test that ran tasks may
end with `assert violations(history, accepted=ids) == []`. Golden histories in
tests/unit/test_checkers.py prove each of them.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tasks_app.db import Cursor
from tasks_app.states import FINISHED, PROCESSING, TRANSITIONS, State, Verb

VERBS_OF_EVENT: dict[str, frozenset[Verb]] = {
    "task.created": frozenset({Verb.SUBMIT}),
    "task.queued": frozenset({Verb.PROMOTE, Verb.UNBLOCK, Verb.SWEEP, Verb.INTERRUPT}),
    "task.blocked": frozenset({Verb.BLOCK}),
    "task.dispatched": frozenset({Verb.DISPATCH}),
    "task.started": frozenset({Verb.CLAIM}),
    "task.retrying": frozenset({Verb.RETRY, Verb.EXPIRE, Verb.RESCUE}),
    "task.succeeded": frozenset({Verb.SUCCEED}),
    "task.failed": frozenset({Verb.FAIL}),
    "task.error": frozenset({Verb.FAIL, Verb.SWEEP, Verb.RESCUE}),
    "task.timeout": frozenset({Verb.FAIL, Verb.EXPIRE}),
    "task.cancelled": frozenset(
        {Verb.REQUEST_CANCEL, Verb.CONFIRM_CANCEL, Verb.RETRY, Verb.INTERRUPT, Verb.RESCUE}
    ),
    "task.cancel_requested": frozenset({Verb.REQUEST_CANCEL}),
    "task.redriven": frozenset({Verb.REDRIVE}),
    "task.updated": frozenset({Verb.REVISE}),
}
NOTES = frozenset({"task.progress", "task.log", "task.cancel_delivered"})
"""Events of a running attempt that change no state."""

HOLDS_SLOT = frozenset({"dispatched", "running", "cancelling"})


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """The columns of a task row that the checkers look at."""

    id: uuid.UUID
    tenant_id: int
    state: str
    event_seq: int
    epoch: int
    attempt: int
    attempt_base: int
    max_retry: int
    rescues: int
    interrupts: int
    updated_at: datetime
    finished_at: datetime | None
    lease_owner: str | None
    unique_key: str | None
    concurrency_key: str | None
    max_concurrency: int | None


@dataclass(frozen=True, slots=True)
class EventFacts:
    """An event row."""

    id: int
    task_id: uuid.UUID
    seq: int
    type: str
    from_state: str | None
    state: str
    epoch: int
    attempt: int
    at: datetime


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """An attempt row."""

    task_id: uuid.UUID
    epoch: int
    attempt: int
    outcome: str


@dataclass(frozen=True, slots=True)
class History:
    """All that the store remembers; events in the order of task, then seq."""

    tasks: Sequence[TaskFacts]
    events: Sequence[EventFacts]
    attempts: Sequence[AttemptFacts] = ()
    events_of: dict[uuid.UUID, list[EventFacts]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for event in self.events:
            self.events_of.setdefault(event.task_id, []).append(event)


_TASKS = """SELECT id, tenant_id, state, event_seq, epoch, attempt, attempt_base, max_retry,
    rescues, interrupts, updated_at, finished_at, lease_owner, unique_key, concurrency_key,
    max_concurrency FROM taskmill_task ORDER BY id"""
_EVENTS = """SELECT id, task_id, seq, type, from_state, state, epoch, attempt, at
    FROM taskmill_event WHERE task_id IS NOT NULL ORDER BY task_id, seq"""
_ATTEMPTS = "SELECT task_id, epoch, attempt, outcome FROM taskmill_attempt ORDER BY task_id, epoch"


def read_history(cursor: Cursor) -> History:
    """Read everything; run in one snapshot (repeatable read) where tasks still move."""
    cursor.execute(_TASKS)
    tasks = [TaskFacts(*row) for row in cursor.fetchall()]
    cursor.execute(_EVENTS)
    events = [EventFacts(*row) for row in cursor.fetchall()]
    cursor.execute(_ATTEMPTS)
    return History(tasks, events, [AttemptFacts(*row) for row in cursor.fetchall()])


def violations(
    history: History, *, accepted: Iterable[uuid.UUID] = (), must_be_finished: bool = False
) -> list[str]:
    """Give every violation as `C<n> <task>: <sentence>`; empty is what a test wants to see."""
    found = list(_lost_or_doubled(history, accepted))
    for task in history.tasks:
        events = history.events_of.get(task.id, [])
        found += [f"{text} [task {task.id}]" for text in _dense_and_legal(events)]
        found += [f"{text} [task {task.id}]" for text in _row_is_fold(task, events)]
        found += [f"{text} [task {task.id}]" for text in _epochs(task, events)]
        if must_be_finished and task.state not in FINISHED:
            found.append(f"C1 still {task.state} [task {task.id}]")
    found += _attempts(history)
    found += _one_live_per_unique_key(history)
    found += _slots(history)
    return found


def _lost_or_doubled(history: History, accepted: Iterable[uuid.UUID]) -> Iterator[str]:
    ids = {task.id for task in history.tasks}
    yield from (f"C1 accepted and lost [task {one}]" for one in set(accepted) - ids)
    yield from (f"C2 events without a row [task {one}]" for one in set(history.events_of) - ids)


def _dense_and_legal(events: Sequence[EventFacts]) -> Iterator[str]:
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield f"C3 events are not numbered 1..n: {[event.seq for event in events]}"
    previous: EventFacts | None = None
    for event in events:
        if event.from_state != (previous.state if previous else None):
            yield f"C3 event {event.seq} starts from {event.from_state}, not where the last ended"
        if not _is_legal(event):
            yield f"C3 event {event.seq}: {event.type} may not go {event.from_state}->{event.state}"
        if previous and event.at < previous.at:
            yield f"C3 event {event.seq} is earlier than the one before it"
        previous = event


def _is_legal(event: EventFacts) -> bool:
    if event.type in NOTES:
        return event.from_state == event.state and event.state in PROCESSING
    start = None if event.from_state is None else State(event.from_state)
    verbs = VERBS_OF_EVENT.get(event.type, frozenset())
    return any(State(event.state) in TRANSITIONS[verb].get(start, ()) for verb in verbs)


def _row_is_fold(task: TaskFacts, events: Sequence[EventFacts]) -> Iterator[str]:
    if not events:
        yield "C4 a row without events"
        return
    last = events[-1]
    said = (last.state, last.seq, last.epoch, last.attempt, last.at)
    stored = (task.state, task.event_seq, task.epoch, task.attempt, task.updated_at)
    if said != stored:
        yield f"C4 the row says {stored}, its last event {said}"
    if (task.state in FINISHED) != (task.finished_at is not None):
        yield "C4 finished_at does not fit the state"
    if (task.state in PROCESSING) != (task.lease_owner is not None):
        yield "C4 a lease without a running attempt, or the reverse"


def _epochs(task: TaskFacts, events: Sequence[EventFacts]) -> Iterator[str]:
    epoch = 0
    refunds = 0
    for event in events:
        epoch += event.type == "task.started"
        refunds += event.state == "queued" and event.from_state == "running"
        if event.epoch != epoch:
            yield f"C5 event {event.seq} has epoch {event.epoch}, {epoch} attempts were started"
    if task.attempt + refunds != task.epoch:
        yield f"C7 {task.epoch} starts, {task.attempt} attempts, {refunds} refunded"
    if task.attempt - task.attempt_base > task.max_retry + 1:
        yield f"C7 {task.attempt - task.attempt_base} attempts of at most {task.max_retry + 1}"
    if refunds > task.interrupts:
        yield f"C7 {refunds} refunds, {task.interrupts} interrupts"


def _attempts(history: History) -> Iterator[str]:
    """C6: exactly one attempt row per ended epoch, and an outcome that its last event can have."""
    ended: dict[tuple[uuid.UUID, int], EventFacts] = {}
    for event in history.events:
        if event.from_state in PROCESSING and event.state not in PROCESSING:
            ended[(event.task_id, event.epoch)] = event
    rows = Counter((one.task_id, one.epoch) for one in history.attempts)
    for key, count in rows.items():
        if count > 1 or key not in ended:
            yield f"C6 {count} attempt rows for epoch {key[1]} [task {key[0]}]"
    for key in ended.keys() - rows.keys():
        yield f"C6 epoch {key[1]} ended without an attempt row [task {key[0]}]"
    for one in history.attempts:
        end = ended.get((one.task_id, one.epoch))
        if end is not None and (one.outcome == "success") != (end.state == "success"):
            yield f"C6 epoch {one.epoch} is {one.outcome}, its event {end.state}"
        if end is not None and one.attempt != _number_of(end):
            yield f"C6 epoch {one.epoch} is numbered {one.attempt} [task {one.task_id}]"


def _number_of(end: EventFacts) -> int:
    """The number of the attempt that an event ended; an interrupt has already refunded it."""
    return end.attempt + (end.from_state == "running" and end.state == "queued")


def _in_order(history: History, of: dict[uuid.UUID, TaskFacts]) -> list[EventFacts]:
    return sorted((one for one in history.events if one.task_id in of), key=lambda one: one.id)


def _one_live_per_unique_key(history: History) -> Iterator[str]:
    keyed = {task.id: task for task in history.tasks if task.unique_key is not None}
    live: dict[tuple[int, str | None], set[uuid.UUID]] = defaultdict(set)
    for event in _in_order(history, keyed):
        task = keyed[event.task_id]
        holders = live[(task.tenant_id, task.unique_key)]
        if event.state in FINISHED:
            holders.discard(task.id)
        else:
            holders.add(task.id)
        if len(holders) > 1:
            yield f"C2 two live tasks hold {task.unique_key} at event {event.id}"


def _slots(history: History) -> Iterator[str]:
    """C8: when a task takes a slot of its key, no more are taken than it allows.

    Swept in the order of event ids: the order of commits for dispatches (one writer), and for the
    ends that free a slot no later than that, as a dispatch counts only committed ends.
    """
    keyed = {task.id: task for task in history.tasks if task.concurrency_key is not None}
    taken: dict[tuple[int, str | None], set[uuid.UUID]] = defaultdict(set)
    for event in _in_order(history, keyed):
        task = keyed[event.task_id]
        holders = taken[(task.tenant_id, task.concurrency_key)]
        if event.state not in HOLDS_SLOT:
            holders.discard(task.id)
            continue
        holders.add(task.id)
        limit = task.max_concurrency
        if event.type == "task.dispatched" and limit is not None and len(holders) > limit:
            yield f"C8 {len(holders)} slots of {limit} taken for {task.concurrency_key}"
