"""Small fast tasks travel several to a message: how many, by their measured run time.

The tasks of a bundle keep their own epochs, timeouts, cancels and histories; the message, its
confirm, Celery's handling of it, the claim and the writing of successes are shared. It holds about
`BUNDLE_SECONDS` of work, and a batch makes at least two bundles for each slot, so that no worker
waits while another runs a long one. Where few come at a time, each message says how many such a
worker may take together of those that wait in it. Sources: docs/adr/0004-dispatch.md,
0019-bundles.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tasks_app.db import Cursor
from tasks_app.registry import MAX_BUNDLE, Handler
from tasks_app.transitions import DispatchedTask

BUNDLE_SECONDS = 0.04
BUNDLE_BYTES: Final = 1_000_000
"""Of payloads: the worker has all of a bundle in memory."""

MOST_IN_BUNDLE: Final = MAX_BUNDLE
LEAST_SAMPLES = 20
MEASURE_SECONDS = 1.0
MEASURE_SOONEST_SECONDS = 0.05
"""Run times are asked for again after that time, while there is a backlog; sooner, and then less
and less soon, where the last batch had a type of which they were not known."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Tasks of one queue and type that travel in one message.

    Attributes:
        most: tasks of the type that a worker may take together, these included.
    """

    tasks: Sequence[DispatchedTask]
    most: int = 1


_RUN_TIMES = """
WITH newest AS (SELECT task_id, finished_at - started_at AS took, outcome
                FROM taskmill_attempt ORDER BY id DESC LIMIT 300)
SELECT t.type, percentile_disc(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM n.took))::float8,
    bool_and(n.outcome IN ('success', 'failed'))
FROM newest n JOIN taskmill_task t ON t.id = n.task_id
GROUP BY t.type
HAVING count(*) >= %(least)s OR NOT bool_and(n.outcome IN ('success', 'failed'))
"""


def measure_sizes(cursor: Cursor, known: Mapping[str, int]) -> dict[str, int]:
    """Give the tasks per message of each type, from nine tenths of the run times of those that ran
    lately.

    Types of which an attempt was lost, timed out, cancelled or handed back among the newest 300
    travel alone, and so do types with few samples of which nothing is known from before.

    Args:
        known: what was measured before.
    """
    cursor.execute(_RUN_TIMES, {"least": LEAST_SAMPLES})
    measured = {
        task_type: size_for(seconds) if is_well else 1
        for task_type, seconds, is_well in cursor.fetchall()
    }
    return {**known, **measured}


def declared_sizes(handlers: Iterable[Handler]) -> dict[str, int]:
    """Give the tasks per message of the types that say so themselves, whatever their run times."""
    return {one.type: size for one in handlers if (size := one.options.bundle) is not None}


def size_for(run_seconds: float) -> int:
    """Give how many tasks of a run time make a bundle: 1 to `MOST_IN_BUNDLE`."""
    if run_seconds * MOST_IN_BUNDLE <= BUNDLE_SECONDS:
        return MOST_IN_BUNDLE
    return max(1, int(BUNDLE_SECONDS / run_seconds))


def bundle(
    batch: Sequence[DispatchedTask],
    sizes: Mapping[str, int],
    slots: Mapping[str, int],
    *,
    most: int = MOST_IN_BUNDLE,
) -> list[Bundle]:
    """Group a batch into bundles of one queue and type, in the order of their first tasks.

    Args:
        sizes: most tasks per bundle by type; a type that is missing travels and runs alone.
        slots: tasks that the workers of a queue run at a time.
        most: tasks in a message, of any type.
    """
    kinds: dict[tuple[str, str], list[DispatchedTask]] = {}
    for task in batch:
        kinds.setdefault((task.queue, task.type), []).append(task)
    found: dict[object, Bundle] = {}
    for (queue, task_type), tasks in kinds.items():
        fair = len(tasks) // (2 * max(1, slots.get(queue, 1)))
        together = sizes.get(task_type, 1)
        for one in _cut(tasks, max(1, min(together, fair, most))):
            largest = max(task.payload_bytes for task in one)
            found[one[0].id] = Bundle(one, min(together, max(1, BUNDLE_BYTES // max(1, largest))))
    return [found[task.id] for task in batch if task.id in found]


def _cut(tasks: Sequence[DispatchedTask], size: int) -> Iterator[list[DispatchedTask]]:
    """Cut into bundles of at most `size` tasks, and `BUNDLE_BYTES` of payload where that is more
    than one task.
    """
    one: list[DispatchedTask] = []
    taken = 0
    for task in tasks:
        if one and (len(one) == size or taken + task.payload_bytes > BUNDLE_BYTES):
            yield one
            one, taken = [], 0
        one.append(task)
        taken += task.payload_bytes
    yield one
