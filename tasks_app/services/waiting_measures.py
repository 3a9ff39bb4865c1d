"""Figures of what waits and why, of what died lately, and of canaries.

What waits is not counted again: `measures` has counted it.

A task is counted once, by the weightiest of its reasons (`selectors.waiting` names all of them).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tasks_app.metrics import Metric, Sample
from tasks_app.selectors.canaries import canaries_seen
from tasks_app.selectors.dead_letters import RECENT_SECONDS, dead_letters_recent
from tasks_app.selectors.measures import COUNT_CAP, LiveTasks
from tasks_app.selectors.serving import held_by_shares, queue_facts

REASONS: Final = (
    "queue_paused",
    "not_before",
    "no_worker",
    "queue_limit",
    "share_limit",
    "concurrency_limit",
    "rate_limit",
    "behind",
)
_OF_STATE: Final = {
    "scheduled": "not_before",
    "retrying": "not_before",
}
_OF_PARKED: Final = {"slots": "concurrency_limit", "rate": "rate_limit"}
_ACTIVE: Final = ("dispatched", "running", "cancelling")

WAITING: Final = Metric(
    name="taskmill_waiting_tasks",
    doc="Pending tasks by the weightiest reason for which they wait; counted as `taskmill_tasks`.",
    labels=("reason",),
)
UNSERVED: Final = Metric(
    name="taskmill_unserved_tasks",
    doc="Tasks that wait in a queue which is not paused and has no live worker.",
    labels=("queue",),
)
RECENT_DEAD_LETTERS: Final = Metric(
    name="taskmill_recent_dead_letters",
    doc=f"Tasks that failed for good in the last {RECENT_SECONDS // 60} minutes, by queue.",
    labels=("queue",),
)
CANARY_DELAY: Final = Metric(
    name="taskmill_canary_delay_seconds",
    doc="From submission to success of the newest canary that came back through a queue.",
    labels=("queue",),
)
CANARY_SILENT: Final = Metric(
    name="taskmill_canary_silent_seconds",
    doc="Age of the oldest canary sent through a queue since one came back; 0 where none is out.",
    labels=("queue",),
)
WAITING_METRICS: Final = (WAITING, UNSERVED, RECENT_DEAD_LETTERS, CANARY_DELAY, CANARY_SILENT)


def waiting_samples(found: LiveTasks) -> Iterator[Sample]:
    """Tell why the tasks wait that were counted, what died lately, and how canaries fare."""
    reasons = Counter({_OF_PARKED.get(what, what): found.parked[what] for what in found.parked})
    unserved: Counter[str] = Counter()
    of_ready = _of_ready(found)
    for (queue, state), number in found.counts.items():
        reason = of_ready.get((queue, state), _OF_STATE.get(state))
        if reason is not None:
            reasons[reason] += number
        if reason == "no_worker":
            unserved[queue] += number
    shared = [one for one, reason in of_ready.items() if one[1] == "queued" and reason == "behind"]
    for queue, number in held_by_shares([one[0] for one in shared], cap=COUNT_CAP).items():
        held = min(number, found.counts[queue, "queued"])
        reasons.update(share_limit=held, behind=-held)
    for reason in REASONS:
        yield Sample(WAITING, reasons[reason], (reason,))
    for queue, number in unserved.items():
        yield Sample(UNSERVED, number, (queue,))
    for queue, number in dead_letters_recent().items():
        yield Sample(RECENT_DEAD_LETTERS, number, (queue,))
    for row in canaries_seen():
        yield Sample(CANARY_SILENT, row["silent_seconds"], (row["queue"],))
        if row["delay_seconds"] is not None:
            yield Sample(CANARY_DELAY, row["delay_seconds"], (row["queue"],))


def _of_ready(found: LiveTasks) -> dict[tuple[str, str], str]:
    """Give the reasons of what is ready or handed out, as far as its queue says them."""
    facts = queue_facts(sorted({queue for queue, _ in found.counts}))
    return {
        (queue, state): _reason_of_ready(
            facts[queue], sum(found.counts.get((queue, one), 0) for one in _ACTIVE)
        )
        for queue, state in found.counts
        if state in {"queued", "dispatched"}
    }


def _reason_of_ready(facts: Mapping[str, Any], active: int) -> str:
    if facts["is_paused"]:
        return "queue_paused"
    if not facts["is_served"]:
        return "no_worker"
    if facts["concurrency"] is not None and active >= facts["concurrency"]:
        return "queue_limit"
    return "behind"
