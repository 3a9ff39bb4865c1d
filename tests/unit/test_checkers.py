"""The checkers find what they are for: one clean history, and one anomaly of each kind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.protocol.checkers import (
    AttemptFacts,
    EventFacts,
    History,
    TaskFacts,
    violations,
)

START = datetime(2030, 1, 1, tzinfo=UTC)
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)
LIFE = (
    ("task.created", None, "queued", 0, 0),
    ("task.dispatched", "queued", "dispatched", 0, 0),
    ("task.started", "dispatched", "running", 1, 1),
    ("task.progress", "running", "running", 1, 1),
    ("task.retrying", "running", "retrying", 1, 1),
    ("task.queued", "retrying", "queued", 1, 1),
    ("task.dispatched", "queued", "dispatched", 1, 1),
    ("task.started", "dispatched", "running", 2, 2),
    ("task.succeeded", "running", "success", 2, 2),
)


def life_of(task_id: uuid.UUID, first_id: int) -> list[EventFacts]:
    return [
        EventFacts(
            id=first_id + number,
            task_id=task_id,
            seq=number + 1,
            type=kind,
            from_state=start,
            state=end,
            epoch=epoch,
            attempt=attempt,
            at=START + timedelta(seconds=number),
        )
        for number, (kind, start, end, epoch, attempt) in enumerate(LIFE)
    ]


def row_of(task_id: uuid.UUID, last: EventFacts) -> TaskFacts:
    return TaskFacts(
        id=task_id,
        tenant_id=1,
        state=last.state,
        event_seq=last.seq,
        epoch=last.epoch,
        attempt=last.attempt,
        attempt_base=0,
        max_retry=3,
        rescues=0,
        interrupts=0,
        updated_at=last.at,
        finished_at=last.at,
        lease_owner=None,
        unique_key="u",
        concurrency_key="k",
        max_concurrency=1,
    )


def clean() -> History:
    """Two tasks of one key, one after the other."""
    events = life_of(ONE, 1) + life_of(TWO, 101)
    tasks = [row_of(ONE, events[8]), row_of(TWO, events[17])]
    ends = [(1, "failed"), (2, "success")]
    attempts = [AttemptFacts(one, n, n, outcome) for one in (ONE, TWO) for n, outcome in ends]
    return History(tasks, events, attempts)


def event(index: int, **changes: object) -> Callable[[History], History]:
    def change(history: History) -> History:
        events = list(history.events)
        events[index] = replace(events[index], **changes)  # type: ignore[arg-type]  # by name
        return History(history.tasks, events, history.attempts)

    return change


def row(**changes: object) -> Callable[[History], History]:
    def change(history: History) -> History:
        changed = replace(history.tasks[0], **changes)  # type: ignore[arg-type]  # by name
        return History([changed, *history.tasks[1:]], history.events, history.attempts)

    return change


def without_event(index: int) -> Callable[[History], History]:
    return lambda history: History(
        history.tasks,
        [one for number, one in enumerate(history.events) if number != index],
        history.attempts,
    )


def with_attempts(
    change: Callable[[list[AttemptFacts]], list[AttemptFacts]],
) -> Callable[..., History]:
    return lambda history: History(history.tasks, history.events, change(list(history.attempts)))


def at_once(history: History) -> History:
    """The same two lives, step by step beside each other."""
    events = [replace(one, id=one.seq * 2 + (one.task_id == TWO)) for one in history.events]
    return History(history.tasks, events, history.attempts)


def test_a_clean_history_has_no_violations() -> None:
    assert violations(clean(), accepted=[ONE, TWO], must_be_finished=True) == []


@pytest.mark.parametrize(
    ("anomaly", "found"),
    [
        (lambda history: History(history.tasks[:1], history.events), "C1 accepted and lost"),
        (lambda history: History(history.tasks[:1], history.events), "C2 events without a row"),
        (at_once, "C2 two live tasks hold u"),
        (without_event(3), "C3 events are not numbered"),
        (event(1, from_state="scheduled"), "C3 event 2 starts from scheduled"),
        (event(4, state="queued"), "C3 event 5: task.retrying may not go running->queued"),
        (event(3, type="task.unheard"), "C3 event 4: task.unheard may not go"),
        (event(4, at=START), "C3 event 5 is earlier"),
        (row(state="failed"), "C4 the row says"),
        (row(finished_at=None), "C4 finished_at does not fit"),
        (row(lease_owner="w"), "C4 a lease without"),
        (event(7, epoch=1), "C5 event 8 has epoch 1"),
        (with_attempts(lambda rows: rows[1:]), "C6 epoch 1 ended without an attempt row"),
        (with_attempts(lambda rows: [*rows, rows[0]]), "C6 2 attempt rows for epoch 1"),
        (
            with_attempts(lambda rows: [replace(rows[0], outcome="success"), *rows[1:]]),
            "C6 epoch 1 is success",
        ),
        (
            with_attempts(lambda rows: [replace(rows[0], attempt=0), *rows[1:]]),
            "C6 epoch 1 is numbered 0",
        ),
        (row(max_retry=0), "C7 2 attempts of at most 1"),
        (row(attempt=1), "C7 2 starts, 1 attempts"),
        (at_once, "C8 2 slots of 1 taken for k"),
    ],
)
def test_an_anomaly_is_found(anomaly: Callable[[History], History], found: str) -> None:
    told = violations(anomaly(clean()), accepted=[ONE, TWO])
    assert [text for text in told if text.startswith(found)], told


def test_a_task_that_never_ended_is_found_after_healing() -> None:
    events = life_of(ONE, 1)[:2]
    stuck = replace(row_of(ONE, events[-1]), finished_at=None)
    told = violations(History([stuck], events), must_be_finished=True)
    assert told == [f"C1 still dispatched [task {ONE}]"]
